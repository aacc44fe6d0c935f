package coalesce

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

const patience = time.Minute

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

// trip is one call as the store gets it: requests by key.
type trip map[string][]int

func tripOf(batches []Batch[int, int]) trip {
	seen := trip{}
	for _, p := range batches {
		seen[p.Key] = p.Requests
	}
	return seen
}

// store is a store whose calls wait until the test lets them end.
type store struct {
	*Coalescer[int, int]
	calls  chan trip     // gets gets each call as it begins
	open   chan struct{} // lets one call end
	free   chan struct{} // lets a call with the queue "stuck" end
	most   atomic.Int64  // most calls at the same time
	now    atomic.Int64
	fail   error
	panics atomic.Int64
}

func newStore(perKey, perCall, calls, bound int, timeout time.Duration) *store {
	d := &store{calls: make(chan trip, 100), open: make(chan struct{}, 100), free: make(chan struct{}, 100)}
	d.Coalescer = New(Config[int, int]{PerKey: perKey, PerCall: perCall, Calls: calls, Bound: bound, Timeout: timeout,
		Now:     time.Now,
		OnPanic: func(any) { d.panics.Add(1) }, Send: d.send})
	return d
}

func (d *store) send(ctx context.Context, batches []Batch[int, int]) {
	n := d.now.Add(1)
	defer d.now.Add(-1)
	for most := d.most.Load(); n > most && !d.most.CompareAndSwap(most, n); most = d.most.Load() {
	}
	d.calls <- tripOf(batches)
	gate := d.open
	if batches[0].Key == "stuck" {
		gate = d.free
	}
	var err error
	select {
	case <-gate:
		err = d.fail
	case <-ctx.Done():
		err = ctx.Err()
	}
	for i := range batches {
		p := &batches[i]
		p.Err, p.Answers = err, make([]int, len(p.Requests))
		for j, q := range p.Requests {
			p.Answers[j] = q * 10
		}
	}
}

type result struct {
	answer int
	err    error
}

// ask begins a request and returns when it waits behind a call in flight.
func (d *store) ask(t *testing.T, ctx context.Context, key string, q int) <-chan result {
	t.Helper()
	out := make(chan result, 1)
	before := d.queued(key)
	go func() {
		a, err := d.Do(ctx, key, q)
		out <- result{a, err}
	}()
	require.Eventually(t, func() bool { return d.queued(key) == before+1 }, patience, 100*time.Microsecond)
	return out
}

// first begins a request that is sent at once.
func (d *store) first(t *testing.T, key string, q int) <-chan result {
	t.Helper()
	out := make(chan result, 1)
	go func() {
		a, err := d.Do(t.Context(), key, q)
		out <- result{a, err}
	}()
	require.Equal(t, trip{key: {q}}, <-d.calls)
	return out
}

func (d *store) queued(key string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l, ok := d.queues[key]; ok {
		return l.length()
	}
	return 0
}
