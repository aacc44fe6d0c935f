package meter

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAWindowMeasuresFromTheSampleThatIsAsOldAsItsSpan(t *testing.T) {
	t.Parallel()
	start := time.UnixMilli(1_000_000)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	const span = 5 * time.Second
	var w Window[int64]
	_, found := w.Last()
	require.False(t, found)
	require.Equal(t, Sample[int64]{at(0), 10}, w.Add(at(0), 10, span))
	require.Equal(t, Sample[int64]{at(0), 10}, w.Add(at(2), 20, span))
	require.Equal(t, Sample[int64]{at(0), 10}, w.Add(at(5), 30, span), "nothing is old enough to take its place")
	require.Equal(t, Sample[int64]{at(2), 20}, w.Add(at(7), 40, span))
	require.Equal(t, Sample[int64]{at(7), 40}, w.Add(at(60), 50, span), "a gap leaves the sample before it")
	last, found := w.Last()
	require.True(t, found)
	require.Equal(t, Sample[int64]{at(60), 50}, last)
	w.Clear()
	require.Zero(t, w.Len())
	require.Equal(t, Sample[int64]{at(61), 1}, w.Add(at(61), 1, span))
}

func TestAWindowIsBounded(t *testing.T) {
	t.Parallel()
	var w Window[int]
	for i := range 10_000 {
		w.Add(time.UnixMilli(int64(i*10)), i, time.Second)
	}
	require.LessOrEqual(t, w.Len(), 102)
}
