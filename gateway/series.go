package gateway

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sluice/inventory"
)

// ForgetSeries lets go of a counter's series of sales that are over and of which
// nothing is counted any more, until ctx ends. The counter has a label "sale", and
// whoever counts names it each time.
func ForgetSeries(ctx context.Context, book *inventory.SaleCache, counter *prometheus.CounterVec) {
	ticker := time.NewTicker(forgetEvery)
	defer ticker.Stop()
	seen := map[string]float64{}
	for {
		select {
		case <-ticker.C:
			seen = forgetSeries(counter, seen, overIn(book))
		case <-ctx.Done():
			return
		}
	}
}

// overIn tells of a sale whether its line is no longer needed, or the book does not know it.
func overIn(book *inventory.SaleCache) func(sale string) bool {
	return func(sale string) bool {
		entry, ok := book.Get(sale)
		return !ok || entry.Sale.Finished(book.Now())
	}
}

// forgetSeries lets go of what is over and has not changed since seen, and returns what each sale's
// series amount to now.
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

// totalsOf adds a counter's series up by sale.
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
