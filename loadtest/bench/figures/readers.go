package figures

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"sluice/loadtest/bench/lab"
)

const (
	readerCount = 10
	readerBatch = 100 // messages in one call
)

// readers receive and acknowledge a subscription's messages over HTTP until none is left.
type readers struct {
	node         *lab.Node
	subscription string
	left         atomic.Int64 // messages that nobody has acknowledged

	mu   sync.Mutex
	seen map[string]bool
	bad  error
}

func newReaders(n *lab.Node, subscription string, size int) *readers {
	r := &readers{node: n, subscription: subscription, seen: make(map[string]bool, size)}
	r.left.Store(int64(size))
	return r
}

// run returns when every message is acknowledged. A message that comes twice is an error.
func (r *readers) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	var all sync.WaitGroup
	for range readerCount {
		all.Go(func() {
			for r.left.Load() > 0 {
				if err := r.step(ctx); err != nil {
					r.fail(err)
					cancel()
				}
			}
		})
	}
	all.Wait()
	return r.bad
}

// step receives a batch and acknowledges it.
func (r *readers) step(ctx context.Context) error {
	var got struct {
		Messages []struct{ ID, Lease string }
	}
	err := r.node.Ask(ctx, "/subscriptions/"+r.subscription+"/receive", map[string]any{"max": readerBatch}, &got)
	if err != nil || len(got.Messages) == 0 {
		return errors.Join(err, ctx.Err())
	}
	leases := make([]string, len(got.Messages))
	r.mu.Lock()
	for i, m := range got.Messages {
		if leases[i] = m.Lease; r.seen[m.ID] {
			r.bad = errors.Join(r.bad, lab.Refuse("message %s was received twice", m.ID))
		}
		r.seen[m.ID] = true
	}
	r.mu.Unlock()
	var done struct{ Stood int64 }
	err = r.node.Ask(ctx, "/subscriptions/"+r.subscription+"/ack", map[string]any{"leases": leases}, &done)
	if err == nil && done.Stood != int64(len(leases)) {
		err = lab.Refuse("of %d leases %d stood", len(leases), done.Stood)
	}
	r.left.Add(-done.Stood)
	return err
}

func (r *readers) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad = errors.Join(r.bad, err)
	r.left.Store(0)
}
