package inventory

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

// at is a line as it looks after so many milliseconds.
func at(ms int, served, waiting int64) queue.View {
	return queue.View{Exists: true, Served: served, Waiting: waiting, Now: time.UnixMilli(1_000_000).
		Add(time.Duration(ms) * time.Millisecond)}
}

func TestRateLearnsOnlyUnderBacklog(t *testing.T) {
	t.Parallel()
	gone := at(100, 100, 5)
	gone.Exists = false
	for name, looks := range map[string][2]queue.View{
		"idle before":      {at(0, 0, 0), at(100, 100, 5)},
		"idle after":       {at(0, 0, 5), at(100, 100, 0)},
		"nothing served":   {at(0, 0, 5), at(100, 0, 5)},
		"line loaded anew": {at(0, 900, 5), at(100, 3, 5)},
		"clock set back":   {at(100, 0, 5), at(0, 100, 5)},
		"line gone":        {at(0, 0, 5), gone},
		"first look":       {queue.View{}, at(100, 100, 5)},
	} {
		var r rateMeter
		r.observe(looks[0], looks[1])
		require.InDelta(t, FirstDrainRate, r.drain(0).PerSecond, 0, name)
	}
	var r rateMeter
	r.observe(at(0, 0, 5), at(100, 200, 5))
	require.InDelta(t, 2000, r.drain(0).PerSecond, 0.01, "the first measurement counts until there is a better one")
}

// What nobody has measured promises nothing; what another line has shown is the first word about this one.
func TestRateOfALineNobodyHasMeasured(t *testing.T) {
	t.Parallel()
	var r rateMeter
	require.Equal(t, Drain{PerSecond: FirstDrainRate}, r.drain(0))
	require.Equal(t, Drain{PerSecond: 60, Measured: true}, r.drain(60))
	r.observe(at(0, 0, 5), at(100, 2, 5))
	require.InDelta(t, 20, r.drain(60).PerSecond, 0.01, "its own measurement counts")
}

// What comes and goes between two looks leaves no backlog to measure, but it was worked off.
func TestRateIsAtLeastWhatComesAndGoes(t *testing.T) {
	t.Parallel()
	var r rateMeter
	r.observe(at(0, 0, 0), at(100, 0, 0))
	r.observe(at(100, 0, 0), at(200, 90, 0))
	require.Equal(t, Drain{PerSecond: 900, Measured: true}, r.drain(0))
	require.InDelta(t, 900, r.drain(60).PerSecond, 0.01, "it can do more than the others")
	require.InDelta(t, 2000, r.drain(2000).PerSecond, 0.01, "it may be able to do more than it had to")
	r.observe(at(200, 90, 0), at(5200, 91, 0))
	require.InDelta(t, 900, r.drain(0).PerSecond, 0.01, "little to do says nothing")

	leased := at(5300, 91, 0)
	leased.Leased = 1
	done := at(5400, 1091, 0)
	r.observe(at(5200, 91, 0), leased)
	r.observe(leased, done)
	require.InDelta(t, 5000, r.drain(0).PerSecond, 0.01, "from idle to idle, not from the look in between")

	require.InEpsilon(t, 100, drain(&r, 6000, 10_000, func(ms int) int64 { return 2000 + int64(ms-6000)/10 }), 0.05)
	require.InEpsilon(t, 100, r.drain(0).PerSecond, 0.05,
		"what is measured under backlog counts more than what was proven before")
}

func TestExpectedWait(t *testing.T) {
	t.Parallel()
	p := Drain{PerSecond: 60, InWork: 50}
	require.EqualValues(t, 3, p.ETA(130))
	require.EqualValues(t, 1, p.ETA(0), "in work")
	require.EqualValues(t, 1, Drain{PerSecond: 1e6}.ETA(1))
	require.Positive(t, Drain{PerSecond: leastRate}.ETA(1<<62))
}

// drain looks at a line every 100 ms and returns what was learned at the end.
func drain(r *rateMeter, from, ms int, served func(ms int) int64) float64 {
	for now := from; now < from+ms; now += 100 {
		r.observe(at(now, served(now), 5), at(now+100, served(now+100), 5))
	}
	return r.drain(0).PerSecond
}

func TestRateIsEvenOverLumps(t *testing.T) {
	t.Parallel()
	lumps := func(ms int) int64 { return int64(ms/700) * 400 } // 571 a second
	for _, ms := range []int{3000, 5000, 5300, 5600, 20_000} {
		var r rateMeter
		require.InEpsilon(t, 571, drain(&r, 0, ms, lumps), 0.15, "after %d ms", ms)
	}
}

func TestRateFollowsTheLine(t *testing.T) {
	t.Parallel()
	var r rateMeter
	steady := func(ms int) int64 { return int64(ms) } // 1000 a second
	require.InEpsilon(t, 1000, drain(&r, 0, 10_000, steady), 0.01)
	stuck := func(int) int64 { return 10_000 }
	require.InEpsilon(t, 600, drain(&r, 10_000, 2000, stuck), 0.05, "two seconds of five without a ticket")
	require.InDelta(t, leastRate, drain(&r, 12_000, 4000, stuck), 0.01)
	r.observe(at(16_000, 10_000, 5), at(16_100, 10_000, 0))
	require.InDelta(t, leastRate, r.drain(0).PerSecond, 0.01, "an idle line says nothing")
	fast := func(ms int) int64 { return 10_000 + 2*int64(ms-20_000) }
	require.InEpsilon(t, 2000, drain(&r, 20_000, 1000, fast), 0.01, "what came before the idle time does not count")
	require.LessOrEqual(t, r.served.Len(), 52)
}

// Waits are divided by it, and Redis knows it to three places.
func TestALowerBoundHasAFloor(t *testing.T) {
	t.Parallel()
	var r rateMeter
	r.observe(queue.View{}, at(0, 0, 0))
	r.observe(at(0, 0, 0), at(3_600_000, 1, 0))
	require.InDelta(t, leastRate, r.drain(0).PerSecond, 1e-9)
}

// Workers hold all that a low cap lets in: nobody ever waits, and the line is never idle. What goes through proves a
// rate all the
// same, less what they held when the count began, or the cap would stay as low for ever.
func TestRateHasALowerBoundThoughNobodyWaits(t *testing.T) {
	t.Parallel()
	held := func(ms int, served int64) queue.View {
		v := at(ms, served, 0)
		v.Leased, v.Bounded, v.Epoch = 1, 20, 1
		return v
	}
	var r rateMeter
	for ms := 0; ms < 1000; ms += 250 {
		r.observe(held(ms, int64(ms)), held(ms+250, int64(ms)+250))
		require.Equal(t, Drain{PerSecond: FirstDrainRate}, r.drain(0), "a single batch may end just then")
	}
	r.observe(held(1000, 1000), held(1250, 1250))
	require.InDelta(t, 980, r.drain(0).PerSecond, 0.01)
	r.observe(held(1250, 1250), held(2250, 1260))
	require.InDelta(t, 980, r.drain(0).PerSecond, 0.01, "less says nothing: there may be no more to do")

	loaded := held(3250, 900_000)
	loaded.Epoch = 2
	r.observe(held(2250, 1260), loaded)
	require.InDelta(t, 980, r.drain(0).PerSecond, 0.01, "another loading counts anew")
	r.observe(loaded, at(4250, 900_100, 5))
	r.observe(at(4250, 900_100, 5), at(5250, 900_200, 5))
	require.InDelta(t, 100, r.drain(0).PerSecond, 0.01, "what waits is measured")
}
