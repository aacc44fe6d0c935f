package gateway

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// desk is a store whose calls a test lets through one by one.
type desk struct {
	gatherer[int, int]
	calls chan []int    // each call as it begins
	open  chan struct{} // lets one call end
	most  atomic.Int64  // calls seen at the same time
	now   atomic.Int64
	fail  error
}

func newDesk(most, calls, bound int, timeout time.Duration) *desk {
	d := &desk{calls: make(chan []int, 100), open: make(chan struct{}, 100)}
	d.gatherer = gatherer[int, int]{most: most, calls: calls, bound: bound, timeout: timeout, send: d.answer}
	return d
}

func (d *desk) answer(ctx context.Context, requests []int) ([]int, error) {
	n := d.now.Add(1)
	defer d.now.Add(-1)
	for most := d.most.Load(); n > most && !d.most.CompareAndSwap(most, n); most = d.most.Load() {
	}
	d.calls <- requests
	select {
	case <-d.open:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	answers := make([]int, len(requests))
	for i, q := range requests {
		answers[i] = q * 10
	}
	return answers, d.fail
}

type result struct {
	answer int
	err    error
}

// ask begins a request and returns once it waits behind a call in flight.
func (d *desk) ask(t *testing.T, ctx context.Context, q int) <-chan result {
	t.Helper()
	out := make(chan result, 1)
	before := d.queued()
	go func() {
		a, err := d.do(ctx, q)
		out <- result{a, err}
	}()
	require.Eventually(t, func() bool { return d.queued() == before+1 }, patience, 100*time.Microsecond)
	return out
}

// first begins a request that is sent at once.
func (d *desk) first(t *testing.T, q int) <-chan result {
	t.Helper()
	out := make(chan result, 1)
	go func() {
		a, err := d.do(t.Context(), q)
		out <- result{a, err}
	}()
	require.Equal(t, []int{q}, <-d.calls)
	return out
}

func (d *desk) queued() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting)
}

func TestGathererSendsInOrderWhatCameMeanwhile(t *testing.T) {
	t.Parallel()
	d := newDesk(3, 1, 100, time.Minute)
	first := d.first(t, 1)
	var rest []<-chan result
	for q := 2; q <= 6; q++ {
		rest = append(rest, d.ask(t, t.Context(), q))
	}
	d.open <- struct{}{}
	require.Equal(t, result{10, nil}, <-first)
	require.Equal(t, []int{2, 3, 4}, <-d.calls, "as many as one call takes, first come first")
	d.open <- struct{}{}
	require.Equal(t, []int{5, 6}, <-d.calls)
	d.open <- struct{}{}
	for i, one := range rest {
		require.Equal(t, result{(i + 2) * 10, nil}, <-one)
	}
	d.wait()
	require.EqualValues(t, 1, d.most.Load())
}

func TestGathererKeepsToItsCallsInFlight(t *testing.T) {
	t.Parallel()
	d := newDesk(2, 3, 1000, time.Minute)
	var crowd sync.WaitGroup
	var wrong atomic.Int64
	for q := range 200 {
		crowd.Go(func() {
			if a, err := d.do(t.Context(), q); err != nil || a != q*10 {
				wrong.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return d.now.Load() == 3 }, patience, 100*time.Microsecond)
	go func() {
		for range d.calls {
		}
	}()
	for range 200 {
		d.open <- struct{}{}
	}
	crowd.Wait()
	d.wait()
	close(d.calls)
	require.EqualValues(t, 3, d.most.Load())
	require.Zero(t, wrong.Load())
}

func TestGathererRefusesBeyondItsBound(t *testing.T) {
	t.Parallel()
	d := newDesk(1, 1, 2, time.Minute)
	first := d.first(t, 1)
	second, third := d.ask(t, t.Context(), 2), d.ask(t, t.Context(), 3)
	_, err := d.do(t.Context(), 4)
	require.ErrorIs(t, err, errCrowded)
	require.Equal(t, CodeUnavailable, codeOf(err))
	for range 3 {
		d.open <- struct{}{}
	}
	for _, one := range []<-chan result{first, second, third} {
		require.NoError(t, (<-one).err)
	}
	d.wait()
}

func TestGathererTellsEverybodyOfAnError(t *testing.T) {
	t.Parallel()
	d := newDesk(10, 1, 10, time.Minute)
	d.fail = errors.New("the store says no")
	first := d.first(t, 1)
	second, third := d.ask(t, t.Context(), 2), d.ask(t, t.Context(), 3)
	d.open <- struct{}{}
	d.open <- struct{}{}
	for _, one := range []<-chan result{first, second, third} {
		require.ErrorIs(t, (<-one).err, d.fail)
	}
	d.wait()
}

func TestGathererForgetsWhoHasGone(t *testing.T) {
	t.Parallel()
	d := newDesk(10, 1, 10, time.Minute)
	first := d.first(t, 1)
	ctx, hangUp := context.WithCancel(t.Context())
	gone, stays := d.ask(t, ctx, 2), d.ask(t, t.Context(), 3)
	hangUp()
	require.ErrorIs(t, (<-gone).err, context.Canceled)
	d.open <- struct{}{}
	require.NoError(t, (<-first).err)
	require.Equal(t, []int{3}, <-d.calls)
	d.open <- struct{}{}
	require.Equal(t, result{30, nil}, <-stays)
	d.wait()
	d.wait() // nothing flies: at once
}

// A store that hangs costs each caller two calls' time, and its calls end.
func TestGathererWaitIsBounded(t *testing.T) {
	t.Parallel()
	d := newDesk(1, 1, 1000, 100*time.Millisecond)
	started := time.Now()
	var crowd sync.WaitGroup
	var answered atomic.Int64
	for q := range 50 {
		crowd.Go(func() {
			if _, err := d.do(context.Background(), q); err == nil {
				answered.Add(1)
			}
		})
	}
	crowd.Wait()
	require.Less(t, time.Since(started), 2*time.Second)
	require.Zero(t, answered.Load())
	d.wait()
	require.Less(t, len(d.calls), 5, "nobody is sent who no longer waits")
}
