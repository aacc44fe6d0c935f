package figures

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/loadtest/bench/lab"
)

const (
	delayTopic   = "bench"
	delayBatch   = 1000 // messages in one call: as many as are allowed
	delayCallers = 4
)

// startDelayed starts a process that delivers messages, with a topic that calls url.
func startDelayed(ctx context.Context, l *lab.Lab, url string) (*lab.System, error) {
	return startTopic(ctx, l, "notifier", url)
}

// startReadable starts a process from which other systems may pull a topic's messages.
func startReadable(ctx context.Context, l *lab.Lab) (*lab.System, error) {
	return startTopic(ctx, l, "gateway,notifier", "", "SLUICE_WORK__ADDR=127.0.0.1:0")
}

func startTopic(ctx context.Context, l *lab.Lab, roles, url string, env ...string) (*lab.System, error) {
	setup := lab.Setup{Driver: "sqlite", Env: append(env, "SLUICE_DELAY__ALLOW_PRIVATE=true")}
	s, err := startOn(ctx, l, setup, roles)
	if err != nil {
		return nil, err
	}
	if err := s.Nodes[0].Admin(ctx, "POST", "/topics", map[string]any{"name": delayTopic, "url": url},
		nil); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// addMessages adds the messages from to to-1 in batches. Each is due at at(i), which is also its body, in Unix ns.
func addMessages(ctx context.Context, n *lab.Node, from, to int, at func(i int) time.Time) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	next.Store(int64(from))
	var callers sync.WaitGroup
	for range delayCallers {
		callers.Go(func() {
			for ctx.Err() == nil {
				first := int(next.Add(delayBatch)) - delayBatch
				if first >= to {
					return
				}
				if err := addBatch(ctx, n, first, min(first+delayBatch, to), at); err != nil {
					cancel(fmt.Errorf("add messages: %w", err))
				}
			}
		})
	}
	callers.Wait()
	return context.Cause(ctx)
}

func addBatch(ctx context.Context, n *lab.Node, from, to int, at func(i int) time.Time) error {
	list := make([]map[string]any, 0, to-from)
	for i := from; i < to; i++ {
		due := at(i)
		list = append(list, map[string]any{"id": strconv.Itoa(i), "at": due, "body": due.UnixNano()})
	}
	return n.Admin(ctx, "POST", "/topics/"+delayTopic+"/messages", map[string]any{"messages": list}, nil)
}

// countWaiting returns how many undelivered messages the topic has.
func countWaiting(ctx context.Context, n *lab.Node) (int, error) {
	var said struct {
		Messages struct{ Pending, Firing, Retrying, Dead int }
	}
	err := n.Admin(ctx, "GET", "/topics/"+delayTopic, nil, &said)
	m := said.Messages
	return m.Pending + m.Firing + m.Retrying + m.Dead, err
}

// receiver receives messages and records how late each came.
type receiver struct {
	*http.Server
	url string

	perSubscription bool // each gets every message once

	mu   sync.Mutex
	late map[string]time.Duration // by message
	last time.Time
	bad  error
}

// receive starts a receiver on a free port of 127.0.0.1.
func receive() (*receiver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{url: "http://" + listener.Addr().String(), late: map[string]time.Duration{}}
	r.Server = &http.Server{Handler: r, ReadHeaderTimeout: lab.AnswerPatience}
	go func() { _ = r.Serve(listener) }()
	return r, nil
}

// ServeHTTP receives one message.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	body := make([]byte, 32)
	n, _ := req.Body.Read(body)
	due, err := strconv.ParseInt(strings.TrimSpace(string(body[:n])), 10, 64)
	id := req.Header.Get("Idempotency-Key")
	if r.perSubscription {
		id += " " + req.Header.Get("Sluice-Subscription")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch _, again := r.late[id]; {
	case err != nil:
		r.bad = lab.Refuse("a message arrived as %q", body[:n])
	case again:
		r.bad = lab.Refuse("message %s was delivered twice", id)
	case now.UnixNano() < due/1e6*1e6: // due times are whole milliseconds
		r.bad = lab.Refuse("message %s came %s too early", id, time.Unix(0, due).Sub(now))
	}
	r.late[id], r.last = now.Sub(time.Unix(0, due)), now
	w.WriteHeader(http.StatusNoContent)
}

// got returns how many messages have come, when the last came, and the first error.
func (r *receiver) got() (count int, last time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.late), r.last, r.bad
}
