package gateway

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/api"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// testPanics counts where nobody looks.
func testPanics() *Panics { return NewPanics(quietLog(), prometheus.NewRegistry(), time.Now) }

// trip is one call as its store sees it.
type trip map[string][]int

func tripOf(parcels []parcel[int, int]) trip {
	seen := trip{}
	for _, p := range parcels {
		seen[p.key] = p.requests
	}
	return seen
}

// desk is a store whose calls a test lets through one by one.
type desk struct {
	gatherer[int, int]
	calls chan trip     // each call as it begins
	open  chan struct{} // lets one call end
	free  chan struct{} // lets a call end that carries the lane "stuck"
	most  atomic.Int64  // calls seen at the same time
	now   atomic.Int64
	fail  error
}

func newDesk(perLane, perCall, calls, bound int, timeout time.Duration) *desk {
	d := &desk{calls: make(chan trip, 100), open: make(chan struct{}, 100), free: make(chan struct{}, 100)}
	d.gatherer = gatherer[int, int]{name: "desk", perLane: perLane, perCall: perCall, calls: calls, bound: bound, timeout: timeout, now: time.Now,
		panics: testPanics(), send: d.carry}
	return d
}

func (d *desk) carry(ctx context.Context, parcels []parcel[int, int]) {
	n := d.now.Add(1)
	defer d.now.Add(-1)
	for most := d.most.Load(); n > most && !d.most.CompareAndSwap(most, n); most = d.most.Load() {
	}
	d.calls <- tripOf(parcels)
	gate := d.open
	if parcels[0].key == "stuck" {
		gate = d.free
	}
	var err error
	select {
	case <-gate:
		err = d.fail
	case <-ctx.Done():
		err = ctx.Err()
	}
	for i := range parcels {
		p := &parcels[i]
		p.err, p.answers = err, make([]int, len(p.requests))
		for j, q := range p.requests {
			p.answers[j] = q * 10
		}
	}
}

type result struct {
	answer int
	err    error
}

// ask begins a request of a lane and returns once it waits behind a call in flight.
func (d *desk) ask(t *testing.T, ctx context.Context, lane string, q int) <-chan result {
	t.Helper()
	out := make(chan result, 1)
	before := d.queued(lane)
	go func() {
		a, err := d.do(ctx, lane, q)
		out <- result{a, err}
	}()
	require.Eventually(t, func() bool { return d.queued(lane) == before+1 }, patience, 100*time.Microsecond)
	return out
}

// first begins a request that is sent at once.
func (d *desk) first(t *testing.T, lane string, q int) <-chan result {
	t.Helper()
	out := make(chan result, 1)
	go func() {
		a, err := d.do(t.Context(), lane, q)
		out <- result{a, err}
	}()
	require.Equal(t, trip{lane: {q}}, <-d.calls)
	return out
}

func (d *desk) queued(lane string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l, ok := d.lanes[lane]; ok {
		return l.length()
	}
	return 0
}

func TestGathererSendsInOrderWhatCameMeanwhile(t *testing.T) {
	t.Parallel()
	d := newDesk(3, 3, 4, 100, time.Minute)
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
	d.wait()
	require.EqualValues(t, 1, d.most.Load(), "never two calls for one lane")
}

// Whoever makes the call itself stays with it, and hears the answer although its context has ended.
func TestGathererLoneCallerStaysWithItsCall(t *testing.T) {
	t.Parallel()
	d := newDesk(3, 3, 4, 100, time.Minute)
	ctx, hangUp := context.WithCancel(t.Context())
	out := make(chan result, 1)
	go func() {
		a, err := d.do(ctx, "a", 1)
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
	d.wait()
}

// A call that panics, on its caller's goroutine or on one of its own, fails its requests and keeps nobody else waiting.
func TestGathererSurvivesABrokenCall(t *testing.T) {
	t.Parallel()
	d := newDesk(1, 3, 1, 100, time.Minute)
	send := d.send
	d.send = func(ctx context.Context, parcels []parcel[int, int]) {
		if parcels[0].requests[0] == 3 {
			send(ctx, parcels)
			return
		}
		d.calls <- tripOf(parcels)
		<-d.open
		parcels[0].err = nil // it was about to answer
		panic("broken")
	}
	own := d.first(t, "a", 1)
	next, other, last := d.ask(t, t.Context(), "a", 2), d.ask(t, t.Context(), "b", 2), d.ask(t, t.Context(), "a", 3)
	d.open <- struct{}{}
	require.ErrorIs(t, (<-own).err, errBroken)
	require.Equal(t, trip{"b": {2}, "a": {2}}, <-d.calls)
	d.open <- struct{}{}
	for _, failed := range []<-chan result{next, other} {
		require.ErrorIs(t, (<-failed).err, errBroken)
	}
	require.Equal(t, trip{"a": {3}}, <-d.calls)
	d.open <- struct{}{}
	require.Equal(t, result{30, nil}, <-last)
	d.wait()
	require.EqualValues(t, 2, testutil.ToFloat64(d.panics.total.WithLabelValues("desk")))
	require.Equal(t, api.CodeUnavailable, codeOf(errBroken))
}

// Where a call may last, its callers can always hang up.
func TestGathererAloofCallerHangsUp(t *testing.T) {
	t.Parallel()
	d := newDesk(3, 3, 4, 100, time.Minute)
	d.aloof = true
	ctx, hangUp := context.WithCancel(t.Context())
	out := make(chan error, 1)
	go func() {
		_, err := d.do(ctx, "a", 1)
		out <- err
	}()
	require.Equal(t, trip{"a": {1}}, <-d.calls)
	hangUp()
	require.ErrorIs(t, <-out, context.Canceled)
	d.open <- struct{}{}
	d.wait()
}

// A crowded lane fills its share of a call, not the whole of it.
func TestGathererTakesLanesInTurn(t *testing.T) {
	t.Parallel()
	d := newDesk(3, 6, 1, 100, time.Minute)
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
	d.wait()
}

// A call that hangs holds up the lanes it carries, nobody else.
func TestGathererPassesAHangingCall(t *testing.T) {
	t.Parallel()
	d := newDesk(3, 6, 2, 100, time.Minute)
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
	d.wait()
}

// Whoever once shared a call with a slow sale does not share the next one, too.
func TestGathererLetsSlowLanesTravelAlone(t *testing.T) {
	t.Parallel()
	d := newDesk(3, 6, 1, 100, time.Minute)
	var clock atomic.Int64
	d.gatherer.now = func() time.Time { return time.Unix(clock.Load(), 0) }
	answers := []<-chan result{d.first(t, "first", 1)}
	answers = append(answers, d.ask(t, t.Context(), "other", 2), d.ask(t, t.Context(), "slow", 3))
	d.open <- struct{}{}
	require.Equal(t, trip{"other": {2}, "slow": {3}}, <-d.calls)
	answers = append(answers, d.ask(t, t.Context(), "slow", 4), d.ask(t, t.Context(), "other", 5), d.ask(t, t.Context(), "third", 6), d.ask(t, t.Context(), "fourth", 7))
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
	d.wait()
}

func TestGathererKeepsToItsCallsInFlight(t *testing.T) {
	t.Parallel()
	d := newDesk(2, 1, 3, 1000, time.Minute)
	var crowd sync.WaitGroup
	var wrong atomic.Int64
	for q := range 200 {
		crowd.Go(func() {
			if a, err := d.do(t.Context(), strconv.Itoa(q%7), q); err != nil || a != q*10 {
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
	d := newDesk(1, 1, 1, 2, time.Minute)
	first := d.first(t, "a", 1)
	second, third := d.ask(t, t.Context(), "a", 2), d.ask(t, t.Context(), "a", 3)
	_, err := d.do(t.Context(), "a", 4)
	require.ErrorIs(t, err, errCrowded)
	require.Equal(t, api.CodeUnavailable, codeOf(err))
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
	d := newDesk(10, 1, 1, 10, time.Minute)
	d.fail = errors.New("the store says no")
	first := d.first(t, "a", 1)
	second, third := d.ask(t, t.Context(), "a", 2), d.ask(t, t.Context(), "a", 3)
	d.open <- struct{}{}
	d.open <- struct{}{}
	for _, one := range []<-chan result{first, second, third} {
		require.ErrorIs(t, (<-one).err, d.fail)
	}
	d.wait()
}

// Whoever hangs up makes room at once, not with the next call.
func TestGathererCountsNobodyWhoHasGone(t *testing.T) {
	t.Parallel()
	d := newDesk(10, 1, 1, 2, time.Minute)
	first := d.first(t, "a", 1)
	for q := range 20 {
		ctx, hangUp := context.WithCancel(t.Context())
		one, two := d.ask(t, ctx, "a", 2), d.ask(t, ctx, "a", 2)
		_, err := d.do(t.Context(), "a", 3)
		require.ErrorIs(t, err, errCrowded, q)
		hangUp()
		require.ErrorIs(t, (<-one).err, context.Canceled)
		require.ErrorIs(t, (<-two).err, context.Canceled)
		d.mu.Lock()
		require.LessOrEqual(t, len(d.lanes["a"].waiting), 1, "nor holds on to them")
		d.mu.Unlock()
	}
	stays := d.ask(t, t.Context(), "a", 4)
	d.open <- struct{}{}
	require.NoError(t, (<-first).err)
	require.Equal(t, trip{"a": {4}}, <-d.calls)
	d.open <- struct{}{}
	require.Equal(t, result{40, nil}, <-stays)
	d.wait()
}

// A lane from which everybody has gone is no part of a call, and comes back with the next request.
func TestGathererPassesALaneThatEverybodyHasLeft(t *testing.T) {
	t.Parallel()
	d := newDesk(10, 10, 1, 10, time.Minute)
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
	d.wait()
}

// leaving is a caller that tells only when it is asked that it has hung up.
type leaving struct {
	context.Context
	left atomic.Bool
}

func (l *leaving) Left() bool { return l.left.Load() }

// Who can only be asked whether it has hung up is asked when its lane is crowded.
func TestGathererAsksACrowdWhoHasGone(t *testing.T) {
	t.Parallel()
	d := newDesk(10, 1, 1, 3, time.Minute)
	var now atomic.Int64
	d.gatherer.now = func() time.Time { return time.Unix(1000, now.Load()) }
	first := d.first(t, "a", 1)
	one, two := &leaving{Context: t.Context()}, &leaving{Context: t.Context()}
	gone, stays := d.ask(t, one, "a", 2), d.ask(t, two, "a", 3)
	third := d.ask(t, t.Context(), "a", 4)
	_, err := d.do(t.Context(), "a", 5)
	require.ErrorIs(t, err, errCrowded)
	one.left.Store(true)
	_, err = d.do(t.Context(), "a", 5)
	require.ErrorIs(t, err, errCrowded, "they were asked just now")
	now.Add(int64(leftEvery))
	fourth := make(chan result, 1)
	go func() {
		a, err := d.do(t.Context(), "a", 5)
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
	d.wait()
}

// A lane that nobody uses is let go; one in use is not.
func TestGathererLetsLanesGo(t *testing.T) {
	t.Parallel()
	d := newDesk(10, 10, 2, 10, time.Minute)
	var now atomic.Int64
	d.gatherer.now = func() time.Time { return time.Unix(1000, now.Load()) }
	for q := range 100 {
		one := d.first(t, strconv.Itoa(q), 1)
		d.open <- struct{}{}
		require.NoError(t, (<-one).err)
	}
	now.Add(int64(laneIdle) - 1)
	busy := d.first(t, "stuck", 1)
	d.forget()
	require.Len(t, d.lanes, 101)
	now.Add(1)
	d.forget()
	require.Len(t, d.lanes, 1)
	d.free <- struct{}{}
	require.NoError(t, (<-busy).err)
	d.wait()
}

func TestGathererForgetsWhoHasGone(t *testing.T) {
	t.Parallel()
	d := newDesk(10, 1, 1, 10, time.Minute)
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
	d.wait()
	d.wait() // nothing flies: at once
}

// A store that hangs costs each caller two calls' time, and its calls end.
func TestGathererWaitIsBounded(t *testing.T) {
	t.Parallel()
	d := newDesk(1, 1, 1, 1000, 100*time.Millisecond)
	started := time.Now()
	var crowd sync.WaitGroup
	var answered atomic.Int64
	for q := range 50 {
		crowd.Go(func() {
			if _, err := d.do(context.Background(), "a", q); err == nil {
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
