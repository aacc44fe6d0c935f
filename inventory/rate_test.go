package inventory

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

func TestRateLearnsOnlyUnderBacklog(t *testing.T) {
	t.Parallel()
	at := func(ms int, served, waiting int64) queue.View {
		return queue.View{Exists: true, Served: served, Waiting: waiting, Now: time.UnixMilli(1_000_000).Add(time.Duration(ms) * time.Millisecond)}
	}
	gone := at(100, 100, 5)
	gone.Exists = false
	for name, looks := range map[string][2]queue.View{
		"idle before":      {at(0, 0, 0), at(100, 100, 5)},
		"idle after":       {at(0, 0, 5), at(100, 100, 0)},
		"nothing served":   {at(0, 0, 5), at(100, 0, 5)},
		"line loaded anew": {at(0, 900, 5), at(100, 3, 5)},
		"too close":        {at(0, 0, 5), at(5, 100, 5)},
		"clock set back":   {at(100, 0, 5), at(0, 100, 5)},
		"line gone":        {at(0, 0, 5), gone},
		"first look":       {queue.View{}, at(100, 100, 5)},
	} {
		var r rate
		r.observe(looks[0], looks[1])
		require.InDelta(t, firstRate, r.perSecond(), 0, name)
	}

	var r rate
	r.observe(at(0, 0, 5), at(100, 200, 5))
	require.InDelta(t, 2000, r.perSecond(), 0.01, "the first measurement counts in full")
	r.observe(at(0, 0, 5), at(100, 100, 5))
	require.InDelta(t, 1800, r.perSecond(), 0.01, "later ones are smoothed")
	for range 100 {
		r.observe(at(0, 0, 5), at(100_000, 1, 5))
	}
	require.Positive(t, r.perSecond(), "something is divided by it")
	require.InDelta(t, 0.1, r.perSecond(), 0.01)
}
