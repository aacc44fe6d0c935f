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
// Requests are sent in the order of their arrival.
type gatherer[Q, A any] struct {
	send    func(ctx context.Context, requests []Q) ([]A, error) // one answer per request, or an error for all
	most    int                                                  // requests in one call
	calls   int                                                  // calls in flight
	bound   int                                                  // requests waiting
	timeout time.Duration                                        // of one call

	mu      sync.Mutex
	waiting []gathered[Q, A]
	flying  int
	done    sync.WaitGroup
}

type gathered[Q, A any] struct {
	request Q
	answer  chan reply[A]
}

type reply[A any] struct {
	answer A
	err    error
}

// do returns the answer to one request. When ctx ends first the request may
// still be sent: a caller that hangs up leaves nothing half done.
func (g *gatherer[Q, A]) do(ctx context.Context, request Q) (A, error) {
	answer := make(chan reply[A], 1)
	g.mu.Lock()
	if len(g.waiting) >= g.bound {
		g.mu.Unlock()
		var none A
		return none, errCrowded
	}
	g.waiting = append(g.waiting, gathered[Q, A]{request, answer})
	if g.flying < g.calls {
		g.flying++
		g.done.Go(g.fly)
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

func (g *gatherer[Q, A]) take() []gathered[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), g.most)
	if n == 0 {
		g.flying--
		return nil
	}
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return batch
}

// wait returns when no call is in flight.
func (g *gatherer[Q, A]) wait() { g.done.Wait() }
