package gateway

import (
	"context"
	"sync"

	"sluice/queue"
)

// hub wakes the requests that wait for an order's news. It is a hint: a
// waiter that misses one finds the news at its next look.
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

// run hears the news of all processes until ctx ends.
func (h *hub) run(ctx context.Context) {
	h.lines.Listen(ctx, func(n queue.Event) { h.tell(n.OrderID) })
}

// wait returns a channel that gets a value when the order has news, and the
// function that must be called to stop waiting. It reports false when too
// many wait already.
func (h *hub) wait(id string) (<-chan struct{}, func(), bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count >= h.most {
		return nil, nil, false
	}
	h.count++
	news := make(chan struct{}, 1)
	h.waiters[id] = append(h.waiters[id], news)
	return news, func() { h.leave(id, news) }, true
}

// crowded reports whether wait would refuse.
func (h *hub) crowded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count >= h.most
}

func (h *hub) leave(id string, news chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.waiters[id][:0]
	for _, w := range h.waiters[id] {
		if w != news {
			kept = append(kept, w)
		}
	}
	h.count--
	if h.waiters[id] = kept; len(kept) == 0 {
		delete(h.waiters, id)
	}
}

func (h *hub) tell(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.waiters[id] {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}
