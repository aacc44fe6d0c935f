package gateway

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errCrowded says that more requests wait for one store than may.
var errCrowded = errors.New("too many requests wait for the store")

// gatherer sends requests that arrive while a call is in flight together in
// the next one. Nobody waits for a timer: a lone request is sent at once.
// Requests are sent in the order of their arrival. While a store hangs, nobody
// waits longer than for the call in flight and one more.
type gatherer[Q, A any] struct {
	send    func(ctx context.Context, requests []Q) ([]A, error) // one answer per request, or an error for all
	most    int                                                  // requests in one call
	calls   int                                                  // calls in flight
	bound   int                                                  // requests waiting
	timeout time.Duration                                        // of one call

	mu      sync.Mutex
	waiting []gathered[Q, A]
	flying  int
	idle    chan struct{} // closed when the last call has ended; nil when none flies
}

type gathered[Q, A any] struct {
	ctx     context.Context // of the caller, who has gone when it has ended
	request Q
	answer  chan reply[A]
}

type reply[A any] struct {
	answer A
	err    error
}

// do returns the answer to one request, within twice the timeout of a call.
// When it returns earlier, because ctx ended, a call in flight may still carry
// the request; one that was not sent yet never is.
func (g *gatherer[Q, A]) do(ctx context.Context, request Q) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*g.timeout)
	defer cancel()
	answer := make(chan reply[A], 1)
	g.mu.Lock()
	if len(g.waiting) >= g.bound {
		g.mu.Unlock()
		var none A
		return none, errCrowded
	}
	g.waiting = append(g.waiting, gathered[Q, A]{ctx, request, answer})
	if g.flying < g.calls {
		if g.flying++; g.flying == 1 {
			g.idle = make(chan struct{})
		}
		go g.fly()
	}
	g.mu.Unlock()
	select {
	case r := <-answer:
		return r.answer, r.err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

// fly sends until nothing waits.
func (g *gatherer[Q, A]) fly() {
	for {
		batch := g.take()
		if batch == nil {
			return
		}
		requests := make([]Q, len(batch))
		for i, w := range batch {
			requests[i] = w.request
		}
		// Detached from every caller: none of them may leave the others without an answer.
		ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
		answers, err := g.send(ctx, requests)
		cancel()
		for i, w := range batch {
			if err != nil {
				w.answer <- reply[A]{err: err}
				continue
			}
			w.answer <- reply[A]{answer: answers[i]}
		}
	}
}

// take returns the next batch without those whose callers have gone; nil, and
// the flight is over, when nobody waits.
func (g *gatherer[Q, A]) take() []gathered[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	batch := make([]gathered[Q, A], 0, min(len(g.waiting), g.most))
	for len(g.waiting) > 0 && len(batch) < g.most {
		if g.waiting[0].ctx.Err() == nil {
			batch = append(batch, g.waiting[0])
		}
		g.waiting = g.waiting[1:]
	}
	if len(batch) > 0 {
		return batch
	}
	if g.flying--; g.flying == 0 {
		close(g.idle)
		g.idle = nil
	}
	return nil
}

// wait returns when no call is in flight, which takes as long as requests keep
// coming.
func (g *gatherer[Q, A]) wait() {
	g.mu.Lock()
	idle := g.idle
	g.mu.Unlock()
	if idle != nil {
		<-idle
	}
}
