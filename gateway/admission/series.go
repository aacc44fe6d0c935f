package admission

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sluice/inventory"
)

// ForgetEvery is how often unused state is looked for.
const ForgetEvery = 30 * time.Second

// ForgetSeries removes a counter's series of sales that are over and have no new counts, until ctx ends. The counter
// must have a label "sale".
func ForgetSeries(ctx context.Context, sales *inventory.SaleCache, counter *prometheus.CounterVec) {
	ticker := time.NewTicker(ForgetEvery)
	defer ticker.Stop()
	seen := map[string]float64{}
	for {
		select {
		case <-ticker.C:
			seen = forgetSeries(counter, seen, isOver(sales))
		case <-ctx.Done():
			return
		}
	}
}

// isOver returns a function that reports whether a sale's line is no longer needed. It also does for a sale that the
// cache does not know.
func isOver(sales *inventory.SaleCache) func(sale string) bool {
	return func(sale string) bool {
		entry, ok := sales.Get(sale)
		return !ok || entry.Sale.Finished(sales.Now())
	}
}

// forgetSeries removes series of sales that are over and have not changed since seen. It returns each sale's present
// total.
func forgetSeries(counter *prometheus.CounterVec, seen map[string]float64,
	over func(sale string) bool) map[string]float64 {
	totals := totalsOf(counter)
	for sale, total := range totals {
		if was, known := seen[sale]; known && was == total && over(sale) {
			counter.DeletePartialMatch(prometheus.Labels{"sale": sale})
			delete(totals, sale)
		}
	}
	return totals
}

// totalsOf returns the sum of a counter's series by sale.
func totalsOf(counter *prometheus.CounterVec) map[string]float64 {
	series := make(chan prometheus.Metric)
	go func() {
		defer close(series)
		counter.Collect(series)
	}()
	totals := map[string]float64{}
	for one := range series {
		var value dto.Metric
		if one.Write(&value) != nil {
			continue
		}
		for _, label := range value.GetLabel() {
			if label.GetName() == "sale" {
				totals[label.GetValue()] += value.GetCounter().GetValue()
			}
		}
	}
	return totals
}
