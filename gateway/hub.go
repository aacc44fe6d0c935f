package gateway

import (
	"context"
	"sync"

	"sluice/queue"
)

// hub wakes the requests that wait for a change of an order. Wake-ups are hints: a waiter that misses one finds the
// change when it reads next.
type hub struct {
	lines   *queue.Lines
	most    int
	mu      sync.Mutex
	waiters map[string][]chan struct{}
	count   int
}

func newHub(lines *queue.Lines, most int) *hub {
	return &hub{lines: lines, most: most, waiters: map[string][]chan struct{}{}}
}

// run receives the changes from all processes until ctx ends.
func (h *hub) run(ctx context.Context) {
	h.lines.Listen(ctx, func(n queue.Event) { h.wake(n.OrderID) })
}

// wait returns a channel that gets a value when the order may have changed. The returned function must be called to
// stop waiting. wait reports false when too many wait already.
func (h *hub) wait(id string) (<-chan struct{}, func(), bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count >= h.most {
		return nil, nil, false
	}
	h.count++
	changed := make(chan struct{}, 1)
	h.waiters[id] = append(h.waiters[id], changed)
	return changed, func() { h.leave(id, changed) }, true
}

// isFull reports whether wait would report false.
func (h *hub) isFull() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count >= h.most
}

func (h *hub) leave(id string, changed chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.waiters[id][:0]
	for _, w := range h.waiters[id] {
		if w != changed {
			kept = append(kept, w)
		}
	}
	h.count--
	if h.waiters[id] = kept; len(kept) == 0 {
		delete(h.waiters, id)
	}
}

func (h *hub) wake(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.waiters[id] {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}
