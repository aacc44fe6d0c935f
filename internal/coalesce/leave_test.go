package coalesce

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCoalescerCountsNobodyWhoHasGone checks that a caller that hangs up makes room at once.
func TestCoalescerCountsNobodyWhoHasGone(t *testing.T) {
	t.Parallel()
	d := newStore(10, 1, 1, 2, time.Minute)
	first := d.first(t, "a", 1)
	for q := range 20 {
		ctx, hangUp := context.WithCancel(t.Context())
		one, two := d.ask(t, ctx, "a", 2), d.ask(t, ctx, "a", 2)
		_, err := d.Do(t.Context(), "a", 3)
		require.ErrorIs(t, err, ErrOverloaded, q)
		hangUp()
		require.ErrorIs(t, (<-one).err, context.Canceled)
		require.ErrorIs(t, (<-two).err, context.Canceled)
		d.mu.Lock()
		require.LessOrEqual(t, len(d.queues["a"].waiting), 1, "nor holds on to them")
		d.mu.Unlock()
	}
	stays := d.ask(t, t.Context(), "a", 4)
	d.open <- struct{}{}
	require.NoError(t, (<-first).err)
	require.Equal(t, trip{"a": {4}}, <-d.calls)
	d.open <- struct{}{}
	require.Equal(t, result{40, nil}, <-stays)
	d.Wait()
}

// TestCoalescerPassesAQueueThatEverybodyHasLeft checks that a queue without callers is not sent, and that its next
// request is.
func TestCoalescerPassesAQueueThatEverybodyHasLeft(t *testing.T) {
	t.Parallel()
	d := newStore(10, 10, 1, 10, time.Minute)
	first := d.first(t, "a", 1)
	ctx, hangUp := context.WithCancel(t.Context())
	gone, other := d.ask(t, ctx, "left", 2), d.ask(t, t.Context(), "b", 3)
	hangUp()
	require.ErrorIs(t, (<-gone).err, context.Canceled)
	d.open <- struct{}{}
	require.NoError(t, (<-first).err)
	require.Equal(t, trip{"b": {3}}, <-d.calls)
	back := d.ask(t, t.Context(), "left", 4)
	d.open <- struct{}{}
	require.NoError(t, (<-other).err)
	require.Equal(t, trip{"left": {4}}, <-d.calls)
	d.open <- struct{}{}
	require.Equal(t, result{40, nil}, <-back)
	d.Wait()
}

// leaving is a context that reports only through HasLeft that its caller has hung up.
type leaving struct {
	context.Context
	left atomic.Bool
}

func (l *leaving) HasLeft() bool { return l.left.Load() }

// TestCoalescerAsksAFullQueueWhoHasGone checks that HasLeft is called when a queue is full.
func TestCoalescerAsksAFullQueueWhoHasGone(t *testing.T) {
	t.Parallel()
	d := newStore(10, 1, 1, 3, time.Minute)
	var now atomic.Int64
	d.Coalescer.Now = func() time.Time { return time.Unix(1000, now.Load()) }
	first := d.first(t, "a", 1)
	one, two := &leaving{Context: t.Context()}, &leaving{Context: t.Context()}
	gone, stays := d.ask(t, one, "a", 2), d.ask(t, two, "a", 3)
	third := d.ask(t, t.Context(), "a", 4)
	_, err := d.Do(t.Context(), "a", 5)
	require.ErrorIs(t, err, ErrOverloaded)
	one.left.Store(true)
	_, err = d.Do(t.Context(), "a", 5)
	require.ErrorIs(t, err, ErrOverloaded, "they were asked just now")
	now.Add(int64(leftEvery))
	fourth := make(chan result, 1)
	go func() {
		a, err := d.Do(t.Context(), "a", 5)
		fourth <- result{a, err}
	}()
	require.Eventually(t, func() bool { return len(gone) == 1 && d.queued("a") == 3 }, patience, 100*time.Microsecond)
	require.ErrorIs(t, (<-gone).err, context.Canceled)
	d.open <- struct{}{}
	require.NoError(t, (<-first).err)
	require.Equal(t, trip{"a": {3, 4, 5}}, <-d.calls)
	d.open <- struct{}{}
	for _, answer := range []<-chan result{stays, third, fourth} {
		require.NoError(t, (<-answer).err)
	}
	d.Wait()
}

// TestCoalescerLetsQueuesGo checks that only unused queues are forgotten.
func TestCoalescerLetsQueuesGo(t *testing.T) {
	t.Parallel()
	d := newStore(10, 10, 2, 10, time.Minute)
	var now atomic.Int64
	d.Coalescer.Now = func() time.Time { return time.Unix(1000, now.Load()) }
	for q := range 100 {
		one := d.first(t, strconv.Itoa(q), 1)
		d.open <- struct{}{}
		require.NoError(t, (<-one).err)
	}
	now.Add(int64(queueIdle) - 1)
	busy := d.first(t, "stuck", 1)
	d.Forget()
	require.Len(t, d.queues, 101)
	now.Add(1)
	d.Forget()
	require.Len(t, d.queues, 1)
	d.free <- struct{}{}
	require.NoError(t, (<-busy).err)
	d.Wait()
}

func TestCoalescerForgetsWhoHasGone(t *testing.T) {
	t.Parallel()
	d := newStore(10, 1, 1, 10, time.Minute)
	first := d.first(t, "a", 1)
	ctx, hangUp := context.WithCancel(t.Context())
	gone, stays := d.ask(t, ctx, "a", 2), d.ask(t, t.Context(), "a", 3)
	hangUp()
	require.ErrorIs(t, (<-gone).err, context.Canceled)
	d.open <- struct{}{}
	require.NoError(t, (<-first).err)
	require.Equal(t, trip{"a": {3}}, <-d.calls)
	d.open <- struct{}{}
	require.Equal(t, result{30, nil}, <-stays)
	d.Wait()
	d.Wait() // no call is in flight: returns at once
}
