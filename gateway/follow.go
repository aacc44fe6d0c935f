package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/internal/coalesce"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

const lookEvery = time.Second // how often a waiting request looks by itself

func waitOf(c *gin.Context, most time.Duration) (time.Duration, *api.FieldError) {
	if c.Request.URL.RawQuery == "" {
		return 0, nil
	}
	text, ok := c.GetQuery("wait")
	if !ok {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if seconds, err2 := strconv.Atoi(text); err2 == nil {
		// A longer wait would overflow.
		wait, err = time.Duration(max(-1, min(seconds, int(most/time.Second)+1)))*time.Second, nil
	}
	if err != nil || wait < 0 {
		return 0, &api.FieldError{Field: "wait", Detail: "must be a duration such as 20s"}
	}
	return min(wait, most), nil
}

// seenOf is the status that the client has been told, empty when it does not say.
func seenOf(c *gin.Context) (string, *api.FieldError) {
	seen, ok := c.GetQuery("seen")
	if ok && !slices.Contains(order.Statuses(), seen) {
		return "", &api.FieldError{Field: "seen", Detail: "must be one of " + strings.Join(order.Statuses(), ", ")}
	}
	return seen, nil
}

// isNews reports whether the order is worth an answer at once. Who does not
// say what it has seen has seen its 202, and what it was told here: anything
// else but a place in line is news.
func (g *Gateway) isNews(v order.View, seen string) bool {
	if seen == "" {
		return v.Final() || v.LeftLine() && !g.delivered.has(v)
	}
	return v.Status != seen || v.Final()
}

// awaitChange returns the order when its status is no longer that of v, or as
// it stands when the wait is over.
func (g *Gateway) awaitChange(c *gin.Context, w wanted, v order.View, wait time.Duration) (order.View, error) {
	if err := api.HoldOpen(c.Writer, wait+statusTimeout+time.Second); err != nil {
		return v, nil // the connection cannot be held: what is known is the answer
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), wait)
	defer cancel()
	status, refund := v.Status, v.Refund
	err := g.watch(ctx, w, func(now order.View) bool {
		v = now
		return now.Status == status && now.Refund == refund
	})
	return v, err
}

// watch calls each with the order whenever it may have changed, until each
// says false, ctx ends, or the gateway drains. While the line is being rebuilt
// it goes on waiting, and returns queue.ErrNotReady if it has waited to the end.
func (g *Gateway) watch(ctx context.Context, w wanted, each func(order.View) bool) error {
	news, leave, ok := g.hub.wait(w.id)
	if !ok {
		return coalesce.ErrOverloaded
	}
	defer leave()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		// Looking comes after registering with the hub: no news can slip between.
		now, err := g.find(context.WithoutCancel(ctx), w)
		if err != nil && !errors.Is(err, queue.ErrNotReady) || err == nil && !each(now) {
			return err
		}
		select {
		case <-news:
		case <-ticker.C:
		case <-ctx.Done():
			return err
		case <-g.drained:
			return err
		}
	}
}

// followOrder streams the order as server-sent events: one event per change
// of status or place, until nothing more is to be expected.
func (g *Gateway) followOrder(c *gin.Context) {
	w, ok := g.orderOf(c)
	if !ok {
		return
	}
	v, err := g.find(c.Request.Context(), w)
	if err != nil {
		g.refuse(c, err)
		return
	}
	last := c.GetHeader("Last-Event-ID")
	if v.Final() && last == eventID(v) {
		// The client has seen the end: 204 keeps an EventSource from coming back.
		c.Status(http.StatusNoContent)
		return
	}
	if g.hub.crowded() {
		g.refuse(c, coalesce.ErrOverloaded)
		return
	}
	s := &orderStream{EventStream: api.NewEventStream(c, g.now), last: last, pace: w.entry.Pace}
	if s.Start() != nil {
		return
	}
	err = g.watch(c.Request.Context(), w, s.send)
	if err == nil && g.Draining() && !s.ended {
		s.Bye()
	}
}

// eventID names what an event says, so that a client that comes back is sent
// only what it has not seen.
func eventID(v order.View) string {
	if v.Status == order.Queued {
		return v.Status + ":" + strconv.FormatInt(v.Position, 10)
	}
	if v.Refund {
		return v.Status + ":" + api.RefundRequired
	}
	return v.Status
}

// orderStream streams one order to its owner.
type orderStream struct {
	*api.EventStream
	last  string // the id of the last event
	pace  func() inventory.Pace
	ended bool
}

// send writes the order if it has changed and reports whether to go on.
func (s *orderStream) send(v order.View) bool {
	id := eventID(v)
	if id == s.last {
		return s.KeepAlive() == nil
	}
	data, err := json.Marshal(api.OrderOf(v, s.pace()))
	if err != nil || s.Send("order", id, data) != nil {
		return false
	}
	s.last, s.ended = id, v.Final()
	return !s.ended
}

// maxDelivered bounds each of the two generations of a deliveredCache, about 4 MB at the worst.
const maxDelivered = 100_000

// deliveredCache remembers which orders' owners have been answered with the present
// status, so that a long poll that does not say what it has seen waits for the
// next one. Only orders that have left the line and are not at their end are
// in it: before that a shopper knows its 202, after it nothing is to be waited
// for. What is forgotten, or was delivered by another gateway, is delivered once more.
// Safe for concurrent use.
type deliveredCache struct {
	seed       maphash.Seed
	mu         sync.Mutex
	young, old map[uint64]struct{}
}

func newDeliveredCache() *deliveredCache {
	return &deliveredCache{seed: maphash.MakeSeed(), young: map[uint64]struct{}{}}
}

func (d *deliveredCache) key(v order.View) uint64 {
	return maphash.Comparable(d.seed, struct {
		id, status string
		refund     bool
	}{v.ID, v.Status, v.Refund})
}

// add notes that the owner has the order as it is.
func (d *deliveredCache) add(v order.View) {
	if !v.LeftLine() || v.Final() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.young[d.key(v)] = struct{}{}
	if len(d.young) >= maxDelivered {
		d.old, d.young = d.young, make(map[uint64]struct{}, maxDelivered)
	}
}

// has reports whether the owner was answered with the order as it is.
func (d *deliveredCache) has(v order.View) bool {
	key := d.key(v)
	d.mu.Lock()
	defer d.mu.Unlock()
	_, young := d.young[key]
	_, old := d.old[key]
	return young || old
}
