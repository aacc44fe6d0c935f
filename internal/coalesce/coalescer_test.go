package coalesce

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCoalescerSendsInOrderWhatCameMeanwhile(t *testing.T) {
	t.Parallel()
	d := newStore(3, 3, 4, 100, time.Minute)
	first := d.first(t, "a", 1)
	var rest []<-chan result
	for q := 2; q <= 6; q++ {
		rest = append(rest, d.ask(t, t.Context(), "a", q))
	}
	d.open <- struct{}{}
	require.Equal(t, result{10, nil}, <-first)
	require.Equal(t, trip{"a": {2, 3, 4}}, <-d.calls, "as many as one call takes, first come first")
	d.open <- struct{}{}
	require.Equal(t, trip{"a": {5, 6}}, <-d.calls)
	d.open <- struct{}{}
	for i, one := range rest {
		require.Equal(t, result{(i + 2) * 10, nil}, <-one)
	}
	d.Wait()
	require.EqualValues(t, 1, d.most.Load(), "never two calls for one key")
}

// TestCoalescerLoneCallerStaysWithItsCall checks that a caller that makes the call gets the answer although its context
// has ended.
func TestCoalescerLoneCallerStaysWithItsCall(t *testing.T) {
	t.Parallel()
	d := newStore(3, 3, 4, 100, time.Minute)
	ctx, hangUp := context.WithCancel(t.Context())
	out := make(chan result, 1)
	go func() {
		a, err := d.Do(ctx, "a", 1)
		out <- result{a, err}
	}()
	require.Equal(t, trip{"a": {1}}, <-d.calls)
	behind := d.ask(t, t.Context(), "a", 2)
	hangUp()
	d.open <- struct{}{}
	require.Equal(t, result{10, nil}, <-out, "at once: others make the next call")
	require.Equal(t, trip{"a": {2}}, <-d.calls)
	d.open <- struct{}{}
	require.Equal(t, result{20, nil}, <-behind)
	d.Wait()
}

// TestCoalescerSurvivesABrokenCall checks that a panic of a call fails its own requests only, on either kind of
// goroutine.
func TestCoalescerSurvivesABrokenCall(t *testing.T) {
	t.Parallel()
	d := newStore(1, 3, 1, 100, time.Minute)
	send := d.Send
	d.Send = func(ctx context.Context, batches []Batch[int, int]) {
		if batches[0].Requests[0] == 3 {
			send(ctx, batches)
			return
		}
		d.calls <- tripOf(batches)
		<-d.open
		batches[0].Err = nil // as if it were about to answer
		panic("broken")
	}
	own := d.first(t, "a", 1)
	next, other, last := d.ask(t, t.Context(), "a", 2), d.ask(t, t.Context(), "b", 2), d.ask(t, t.Context(), "a", 3)
	d.open <- struct{}{}
	require.ErrorIs(t, (<-own).err, ErrBroken)
	require.Equal(t, trip{"b": {2}, "a": {2}}, <-d.calls)
	d.open <- struct{}{}
	for _, failed := range []<-chan result{next, other} {
		require.ErrorIs(t, (<-failed).err, ErrBroken)
	}
	require.Equal(t, trip{"a": {3}}, <-d.calls)
	d.open <- struct{}{}
	require.Equal(t, result{30, nil}, <-last)
	d.Wait()
	require.EqualValues(t, 2, d.panics.Load())
}

// TestCoalescerAloofCallerHangsUp checks that callers of detached calls can always hang up.
func TestCoalescerAloofCallerHangsUp(t *testing.T) {
	t.Parallel()
	d := newStore(3, 3, 4, 100, time.Minute)
	d.Detached = true
	ctx, hangUp := context.WithCancel(t.Context())
	out := make(chan error, 1)
	go func() {
		_, err := d.Do(ctx, "a", 1)
		out <- err
	}()
	require.Equal(t, trip{"a": {1}}, <-d.calls)
	hangUp()
	require.ErrorIs(t, <-out, context.Canceled)
	d.open <- struct{}{}
	d.Wait()
}

// TestCoalescerTakesQueuesInTurn checks that a long queue fills only its share of a call.
func TestCoalescerTakesQueuesInTurn(t *testing.T) {
	t.Parallel()
	d := newStore(3, 6, 1, 100, time.Minute)
	answers := []<-chan result{d.first(t, "first", 1)}
	for q := range 8 {
		answers = append(answers, d.ask(t, t.Context(), "hot", q))
	}
	answers = append(answers, d.ask(t, t.Context(), "quiet", 7), d.ask(t, t.Context(), "calm", 8))
	for _, want := range []trip{{"hot": {0, 1, 2}, "quiet": {7}, "calm": {8}}, {"hot": {3, 4, 5}}, {"hot": {6, 7}}} {
		d.open <- struct{}{}
		require.Equal(t, want, <-d.calls)
	}
	d.open <- struct{}{}
	for _, one := range answers {
		require.NoError(t, (<-one).err)
	}
	d.Wait()
}

// TestCoalescerPassesAHangingCall checks that a call that hangs delays only its own queues.
func TestCoalescerPassesAHangingCall(t *testing.T) {
	t.Parallel()
	d := newStore(3, 6, 2, 100, time.Minute)
	stuck := d.first(t, "stuck", 1)
	behind := d.ask(t, t.Context(), "stuck", 2)
	for q := range 3 {
		other := d.first(t, "other", q)
		d.open <- struct{}{}
		require.Equal(t, result{q * 10, nil}, <-other)
	}
	require.Equal(t, 1, d.queued("stuck"), "it keeps its place behind the call in flight")
	d.free <- struct{}{}
	require.Equal(t, result{10, nil}, <-stuck)
	d.free <- struct{}{}
	require.Equal(t, result{20, nil}, <-behind)
	d.Wait()
}

// TestCoalescerLetsSlowQueuesTravelAlone checks that a quick queue shares a call with a slow one only once.
func TestCoalescerLetsSlowQueuesTravelAlone(t *testing.T) {
	t.Parallel()
	d := newStore(3, 6, 1, 100, time.Minute)
	var clock atomic.Int64
	d.Coalescer.Now = func() time.Time { return time.Unix(clock.Load(), 0) }
	answers := []<-chan result{d.first(t, "first", 1)}
	answers = append(answers, d.ask(t, t.Context(), "other", 2), d.ask(t, t.Context(), "slow", 3))
	d.open <- struct{}{}
	require.Equal(t, trip{"other": {2}, "slow": {3}}, <-d.calls)
	answers = append(answers, d.ask(t, t.Context(), "slow", 4), d.ask(t, t.Context(), "other", 5),
		d.ask(t, t.Context(), "third", 6), d.ask(t, t.Context(), "fourth", 7))
	clock.Add(30)
	d.open <- struct{}{}
	require.Equal(t, trip{"third": {6}, "fourth": {7}}, <-d.calls, "those who were never slow go first, together")
	d.open <- struct{}{}
	seen := []trip{<-d.calls}
	d.open <- struct{}{}
	seen = append(seen, <-d.calls)
	d.open <- struct{}{}
	require.ElementsMatch(t, []trip{{"slow": {4}}, {"other": {5}}}, seen)
	for _, one := range answers {
		require.NoError(t, (<-one).err)
	}
	d.Wait()
}

func TestCoalescerKeepsToItsCallsInFlight(t *testing.T) {
	t.Parallel()
	d := newStore(2, 1, 3, 1000, time.Minute)
	var shoppers sync.WaitGroup
	var wrong atomic.Int64
	for q := range 200 {
		shoppers.Go(func() {
			if a, err := d.Do(t.Context(), strconv.Itoa(q%7), q); err != nil || a != q*10 {
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
	shoppers.Wait()
	d.Wait()
	close(d.calls)
	require.EqualValues(t, 3, d.most.Load())
	require.Zero(t, wrong.Load())
}

func TestCoalescerRefusesBeyondItsBound(t *testing.T) {
	t.Parallel()
	d := newStore(1, 1, 1, 2, time.Minute)
	first := d.first(t, "a", 1)
	second, third := d.ask(t, t.Context(), "a", 2), d.ask(t, t.Context(), "a", 3)
	_, err := d.Do(t.Context(), "a", 4)
	require.ErrorIs(t, err, ErrOverloaded)
	for range 3 {
		d.open <- struct{}{}
	}
	for _, one := range []<-chan result{first, second, third} {
		require.NoError(t, (<-one).err)
	}
	d.Wait()
}

func TestCoalescerTellsEverybodyOfAnError(t *testing.T) {
	t.Parallel()
	d := newStore(10, 1, 1, 10, time.Minute)
	d.fail = errors.New("the store says no")
	first := d.first(t, "a", 1)
	second, third := d.ask(t, t.Context(), "a", 2), d.ask(t, t.Context(), "a", 3)
	d.open <- struct{}{}
	d.open <- struct{}{}
	for _, one := range []<-chan result{first, second, third} {
		require.ErrorIs(t, (<-one).err, d.fail)
	}
	d.Wait()
}

// TestCoalescerWaitIsBounded checks that a store that hangs costs each caller at most the time of two calls.
func TestCoalescerWaitIsBounded(t *testing.T) {
	t.Parallel()
	d := newStore(1, 1, 1, 1000, 100*time.Millisecond)
	started := time.Now()
	var shoppers sync.WaitGroup
	var answered atomic.Int64
	for q := range 50 {
		shoppers.Go(func() {
			if _, err := d.Do(context.Background(), "a", q); err == nil {
				answered.Add(1)
			}
		})
	}
	shoppers.Wait()
	require.Less(t, time.Since(started), 2*time.Second)
	require.Zero(t, answered.Load())
	d.Wait()
	require.Less(t, len(d.calls), 5, "nobody is sent who no longer waits")
}
