// Command listener receives messages of a subscription of Sluice, handles them and acknowledges them.
//
//	SLUICE_WORK=http://127.0.0.1:8082 SLUICE_TOKEN=… SLUICE_SUBSCRIPTION=stock go run ./examples/listener/go
//
// It may be killed at any time, and run as often as one likes. A message that was not acknowledged when its lease
// ends goes to another listener.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"time"
)

// message is one that this listener alone holds until its lease ends.
type message struct {
	ID      string          `json:"id"`
	Attempt int             `json:"attempt"`
	Lease   string          `json:"lease"`
	Body    json.RawMessage `json:"body"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l := listener{
		base:   os.Getenv("SLUICE_WORK") + "/work/v1/subscriptions/" + os.Getenv("SLUICE_SUBSCRIPTION"),
		token:  os.Getenv("SLUICE_TOKEN"),
		client: &http.Client{Timeout: time.Minute},
	}
	for ctx.Err() == nil {
		if err := l.work(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// handle does the work. The same message may come again: what was done for an id must not be done twice.
func handle(m message) error {
	_, err := fmt.Printf("handled %s %s\n", m.ID, m.Body)
	return err
}

// listener asks one subscription for messages.
type listener struct {
	base, token string
	client      *http.Client
}

// work receives some messages, waiting for the first, and says of each what became of it.
func (l listener) work(ctx context.Context) error {
	var got struct {
		Messages []message `json:"messages"`
	}
	if err := l.call(ctx, "receive", map[string]any{"max": 10, "wait": "20s"}, &got); err != nil {
		return err
	}
	var done, failed []string
	for _, m := range got.Messages {
		if err := handle(m); err != nil {
			fmt.Fprintln(os.Stderr, m.ID, err)
			failed = append(failed, m.Lease)
			continue
		}
		done = append(done, m.Lease)
	}
	return cmp.Or(l.settle(ctx, "ack", done), l.settle(ctx, "nack", failed))
}

// settle names leases that another listener may have by now: their messages are handled again.
func (l listener) settle(ctx context.Context, how string, leases []string) error {
	if len(leases) == 0 {
		return nil
	}
	var answer struct {
		Fenced []string `json:"fenced"`
	}
	err := l.call(ctx, how, map[string]any{"leases": leases}, &answer)
	if err == nil && len(answer.Fenced) > 0 {
		err = fmt.Errorf("too late for %d messages: handle fewer at once, or extend their leases", len(answer.Fenced))
	}
	return err
}

// call posts a body and decodes the answer. After a refusal it waits for as long as the answer says.
func (l listener) call(ctx context.Context, what string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base+"/"+what, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+l.token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(r)
	if err != nil {
		return rest(ctx, "", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return rest(ctx, resp.Header.Get("Retry-After"), fmt.Errorf("%s: %s %s", what, resp.Status, text))
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// rest waits before the next call, a second at least, and returns why.
func rest(ctx context.Context, seconds string, why error) error {
	n, _ := strconv.Atoi(seconds)
	select {
	case <-time.After(time.Duration(max(n, 1)) * time.Second):
	case <-ctx.Done():
	}
	return why
}
