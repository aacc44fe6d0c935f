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

const lookEvery = time.Second // how often a waiting request reads the order without a hint

func parseWait(c *gin.Context, most time.Duration) (time.Duration, *api.FieldError) {
	if c.Request.URL.RawQuery == "" {
		return 0, nil
	}
	text, ok := c.GetQuery("wait")
	if !ok {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if seconds, err2 := strconv.Atoi(text); err2 == nil {
		// A longer wait could overflow.
		wait, err = time.Duration(max(-1, min(seconds, int(most/time.Second)+1)))*time.Second, nil
	}
	if err != nil || wait < 0 {
		return 0, &api.FieldError{Field: "wait", Detail: "must be a duration such as 20s"}
	}
	return min(wait, most), nil
}

// parseSeen returns the status that the client already knows, or "" when it does not say.
func parseSeen(c *gin.Context) (string, *api.FieldError) {
	seen, ok := c.GetQuery("seen")
	if ok && !slices.Contains(order.Statuses(), seen) {
		return "", &api.FieldError{Field: "seen", Detail: "must be one of " + strings.Join(order.Statuses(), ", ")}
	}
	return seen, nil
}

// isChange reports whether the order differs from what the client knows. A client that does not say what it knows has
// its 202 and the answers of this gateway.
func (g *Gateway) isChange(v order.View, seen string) bool {
	if seen == "" {
		return v.Final() || v.LeftLine() && !g.delivered.has(v)
	}
	return v.Status != seen || v.Final()
}

// awaitChange waits until the order's status differs from v's, at most wait, and returns the order.
func (g *Gateway) awaitChange(c *gin.Context, w orderRequest, v order.View, wait time.Duration) (order.View, error) {
	if err := api.HoldOpen(c.Writer, wait+statusTimeout+time.Second); err != nil {
		return v, nil // the connection cannot wait longer
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

// watch calls each with the order whenever it may have changed. It ends when each returns false, ctx ends, or the
// gateway drains. During a rebuild of the line it waits, and returns queue.ErrNotReady if that lasts until the end.
func (g *Gateway) watch(ctx context.Context, w orderRequest, each func(order.View) bool) error {
	changed, leave, ok := g.hub.wait(w.id)
	if !ok {
		return coalesce.ErrOverloaded
	}
	defer leave()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		// It reads after registering with the hub, so that no change is missed.
		now, err := g.find(context.WithoutCancel(ctx), w)
		if err != nil && !errors.Is(err, queue.ErrNotReady) || err == nil && !each(now) {
			return err
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-ctx.Done():
			return err
		case <-g.drained:
			return err
		}
	}
}

// followOrder streams the order as server-sent events, one for each change of status or place, until the order's end.
func (g *Gateway) followOrder(c *gin.Context) {
	w, ok := g.readOrderRequest(c)
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
		// The client knows the end: 204 keeps an EventSource from reconnecting.
		c.Status(http.StatusNoContent)
		return
	}
	if g.hub.isFull() {
		g.refuse(c, coalesce.ErrOverloaded)
		return
	}
	s := &orderStream{EventStream: api.NewEventStream(c, g.now), last: last, drain: w.entry.Drain}
	if s.Start() != nil {
		return
	}
	err = g.watch(c.Request.Context(), w, s.send)
	if err == nil && g.Draining() && !s.ended {
		s.Bye()
	}
}

// eventID identifies an event's content, so that a reconnecting client gets only what it does not have.
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
	last  string // id of the last event
	drain func() inventory.Drain
	ended bool
}

// send writes the order if it has changed, and reports whether to go on.
func (s *orderStream) send(v order.View) bool {
	id := eventID(v)
	if id == s.last {
		return s.KeepAlive() == nil
	}
	data, err := json.Marshal(api.OrderOf(v, s.drain()))
	if err != nil || s.Send("order", id, data) != nil {
		return false
	}
	s.last, s.ended = id, v.Final()
	return !s.ended
}

// maxDelivered bounds each of the two generations of a deliveredCache, to about 4 MB at worst.
const maxDelivered = 100_000

// deliveredCache remembers which orders' owners have got the present status. So a long poll that does not say what it
// knows waits for the next one. It has only orders that have left the line and not ended. Before, a shopper has the
// 202; after, there is nothing to wait for. A forgotten status, or one that another gateway delivered, is delivered
// once more. Safe for concurrent use.
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

// add records that the owner has the order's present status.
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

// has reports whether the owner has the order's present status.
func (d *deliveredCache) has(v order.View) bool {
	key := d.key(v)
	d.mu.Lock()
	defer d.mu.Unlock()
	_, young := d.young[key]
	_, old := d.old[key]
	return young || old
}
