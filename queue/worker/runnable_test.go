package worker

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// none says that lines go one by one.
func none() int { return 0 }

// setOn is a set of lines on one server, before workers of whom one may try what is in doubt.
func setOn(now func() time.Time, server func(sale string) string) *runnableSet {
	return newRunnableSet(newDoubts(now, 1, server))
}

func newSet() *runnableSet { return setOn(time.Now, func(string) string { return "" }) }

func TestReadyLinesTakeTurns(t *testing.T) {
	t.Parallel()
	r := newSet()
	for _, sale := range []string{"hot", "cold", "hot", "warm", "hot"} {
		r.add(sale) // a line that is listed keeps its turn
	}
	ctx, cancel := context.WithCancel(context.Background())
	for _, want := range []string{"hot", "cold", "warm", "hot"} {
		got, err := r.next(ctx, none)
		require.NoError(t, err)
		require.Equal(t, job{sales: []string{want}}, got)
		if want == "hot" {
			r.add("hot") // it still has work: behind the others
		}
	}
	cancel()
	_, err := r.next(ctx, none)
	require.ErrorIs(t, err, context.Canceled)
}

func TestSmallLinesGoTogether(t *testing.T) {
	t.Parallel()
	r := newSet()
	most := func() int { return 3 }
	next := func() job {
		t.Helper()
		got, err := r.next(t.Context(), most)
		require.NoError(t, err)
		return got
	}
	r.addLarge("hot")
	for _, sale := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		r.add(sale)
	}
	first := next()
	require.Equal(t, job{sales: []string{"a", "b", "c"}, multi: true}, first)
	require.Equal(t, job{sales: []string{"hot"}}, next(), "neither kind waits for the other")
	second := next()
	require.Equal(t, job{sales: []string{"d", "e", "f"}, multi: true}, second)
	_, ok := r.pop(most())
	require.False(t, ok, "two multi-sale batches are out: the others gather")
	r.add("hot")
	require.Equal(t, []string{"hot"}, next().sales, "a line with much does not wait for them")

	r.add("a")
	r.addLarge("b")
	r.done(first)
	require.Equal(t, job{sales: []string{"g", "a"}, multi: true}, next())
	require.Equal(t, job{sales: []string{"b"}}, next(), "it had much")
	r.done(second)
	r.add("b")
	require.Equal(t, job{sales: []string{"b"}}, next(), "and has until its worker says otherwise")
	r.markSmall("b")
	r.add("b")
	require.Equal(t, job{sales: []string{"b"}, multi: true}, next())
}

// A line that is listed as small and turns out to have much changes its row, and is still listed once.
func TestListedLineBecomesLone(t *testing.T) {
	t.Parallel()
	r := newSet()
	r.add("a")
	r.add("b")
	r.addLarge("a")
	r.addLarge("a")
	got, ok := r.pop(2)
	require.True(t, ok)
	require.Equal(t, []string{"b"}, got.sales)
	got, ok = r.pop(2)
	require.True(t, ok)
	require.Equal(t, []string{"a"}, got.sales)
	_, ok = r.pop(2)
	require.False(t, ok)
}

// What is in doubt goes with nobody, is tried by one at a time after a pause that grows, and has
// its turns again once it went well.
func TestLinesInDoubtAreTriedApart(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	server := func(sale string) string {
		return map[bool]string{true: "one", false: "other"}[strings.HasPrefix(sale, "one")]
	}
	r := setOn(clock.Now, server)
	most := func() int { return 10 }
	for _, sale := range []string{"one-a", "one-b", "other-a", "other-b"} {
		r.add(sale)
	}
	pause, fresh := r.distrust(ofServer("one"))
	require.True(t, fresh)
	require.Equal(t, firstPause, pause)
	_, fresh = r.distrust(ofServer("one"))
	require.False(t, fresh, "workers that fail together count once")
	got, ok := r.pop(most())
	require.True(t, ok)
	require.Equal(t, []string{"other-a", "other-b"}, got.sales, "the others go on")
	r.add("one-a")
	_, ok = r.pop(most())
	require.False(t, ok, "no trial yet")
	wait, ok := r.untilTrial()
	require.True(t, ok)
	require.Equal(t, firstPause, wait)

	clock.Advance(firstPause + 1)
	first, ok := r.pop(most())
	require.True(t, ok)
	require.Equal(t, job{sales: []string{"one-a"}, trial: ofServer("one")}, first)
	_, ok = r.pop(most())
	require.False(t, ok, "one at a time")
	pause, _ = r.distrust(ofServer("one"))
	require.Equal(t, 2*firstPause, pause, "longer each time")
	r.add("one-a")
	r.done(first)
	_, ok = r.pop(most())
	require.False(t, ok)
	clock.Advance(2*firstPause + 1)
	second, ok := r.pop(most())
	require.True(t, ok)
	require.Equal(t, []string{"one-b"}, second.sales, "each in its turn")
	require.Equal(t, 1, r.inDoubt())
	r.trust(ofServer("one"))
	r.done(second)
	require.Zero(t, r.inDoubt())
	got, ok = r.pop(most())
	require.True(t, ok)
	require.Equal(t, job{sales: []string{"one-a"}, multi: true}, got)
	r.done(got)

	r.distrust(ofLine("other-a"))
	r.add("other-a")
	r.trustAll()
	got, ok = r.pop(most())
	require.True(t, ok)
	require.Equal(t, []string{"other-a"}, got.sales)
}

// A server in doubt goes, and another takes its lines over: they have their limiter, and others may still be tried.
func TestLinesThatMovedAreNotInDoubt(t *testing.T) {
	t.Parallel()
	clock, on := testkit.NewClock(time.UnixMilli(1_700_000_000_000)), "one"
	r := setOn(clock.Now, func(string) string { return on })
	r.distrust(ofServer("one"))
	r.add("a")
	r.add("b")
	on = "other"
	clock.Advance(firstPause + 1)
	got, ok := r.pop(10)
	require.True(t, ok)
	require.Equal(t, job{sales: []string{"a", "b"}, multi: true}, got)
	r.done(got)
	r.distrust(ofLine("c"))
	r.add("c")
	clock.Advance(mostPause)
	got, ok = r.pop(10)
	require.True(t, ok)
	require.Equal(t, job{sales: []string{"c"}, trial: ofLine("c")}, got)
}

// Many lines of one server that hangs are not all tried before another that is in doubt.
func TestPlacesInDoubtTakeTurns(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	r := setOn(clock.Now, func(sale string) string { return sale[:1] })
	r.distrust(ofServer("a"))
	for _, sale := range []string{"a1", "a2", "a3"} {
		r.add(sale)
	}
	r.distrust(ofLine("b"))
	r.add("b")
	var tried []string
	for range 3 {
		clock.Advance(mostPause)
		got, ok := r.pop(10)
		require.True(t, ok)
		tried = append(tried, got.sales...)
		r.add(got.sales[0])
		r.done(got)
	}
	require.Equal(t, []string{"a1", "b", "a2"}, tried)
}

// Sweeps go through all lines of each server, and none is left out because a slow server had no turn in between.
func TestSweepsLeaveNoLineOut(t *testing.T) {
	t.Parallel()
	s, lines := newSweeps(), []string{"a", "b", "c", "d", "e"}
	require.Equal(t, []string{"a", "b"}, s.next("slow", lines, 2))
	for range 3 {
		s.next("quick", lines, 2)
	}
	require.Equal(t, []string{"c", "d"}, s.next("slow", lines, 2))
	require.Equal(t, []string{"e", "a"}, s.next("slow", lines, 2))
	require.Equal(t, []string{"a"}, s.next("slow", lines[:1], 2), "fewer by now")
}

// A trial that is due wakes who waits for a turn.
func TestATrialIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newSet()
	r.distrust(ofLine("a"))
	r.add("a")
	got, err := r.next(t.Context(), none)
	require.NoError(t, err)
	require.Equal(t, job{sales: []string{"a"}, trial: ofLine("a")}, got)
}

// That one place failed says something of it alone only while others go well.
func TestAWitnessTellsOneFromAll(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	w := newWitness(clock.Now)
	require.False(t, w.alone("a"), "nothing is known of others")
	w.good("b")
	clock.Advance(time.Millisecond)
	require.False(t, w.alone("a"), "not since it failed the time before")
	clock.Advance(time.Millisecond)
	w.good("b")
	require.True(t, w.alone("a"))
	require.False(t, w.alone("b"), "a has not gone well")
	clock.Advance(time.Millisecond)
	w.good("a")
	require.True(t, w.alone("b"))
	w.good("b")
	clock.Advance(witnessFor + 1)
	require.False(t, w.alone("a"), "that is too long ago")
}
