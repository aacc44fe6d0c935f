package admission

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/queue/worker"
)

// TestSeriesOfSalesThatAreOverAreLetGo checks that shared counters lose the series of ended sales, too.
func TestSeriesOfSalesThatAreOverAreLetGo(t *testing.T) {
	t.Parallel()
	counter := worker.FinishedCounter(prometheus.NewRegistry())
	for _, sale := range []string{"over", "open"} {
		for _, status := range []string{"confirmed", "failed"} {
			counter.WithLabelValues(sale, status).Inc()
		}
	}
	over := func(sale string) bool { return sale == "over" }
	seen := forgetSeries(counter, nil, over)
	require.Equal(t, map[string]float64{"over": 2, "open": 2}, seen)
	counter.WithLabelValues("over", "failed").Inc()
	seen = forgetSeries(counter, seen, over)
	require.Equal(t, 4, testutil.CollectAndCount(counter), "it is still counted")
	forgetSeries(counter, seen, over)
	require.Equal(t, 2, testutil.CollectAndCount(counter))
	require.EqualValues(t, 1, testutil.ToFloat64(counter.WithLabelValues("open", "confirmed")))
}
