package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/inventory"
)

// Gauges shows the cache's numbers as metrics. In the background it measures the difference between ledger and line
// of every active sale. A sale whose last audit could not be made keeps its last value.
type Gauges struct {
	cache                                            *inventory.SaleCache
	auditor                                          *Auditor
	log                                              *slog.Logger
	now                                              func() time.Time
	depth, capacity, oldest, stock, dead, difference *prometheus.Desc
	missingDesc                                      *prometheus.Desc

	mend func(ctx context.Context, s Sale) // what is done about a difference that stands; nil: nothing

	mu       sync.Mutex
	found    map[string]int64
	missing  map[string]int64
	differed map[string]Sale      // at the last look
	turn     map[string]time.Time // when each sale was audited last, in vain or not
	next     map[string]time.Time // when the lines of each server are audited next
}

// NewGauges returns the gauges of a cache, to be registered by the caller.
func NewGauges(cache *inventory.SaleCache, auditor *Auditor, log *slog.Logger, now func() time.Time) *Gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sluice_"+name, help, append([]string{"sale"}, labels...), nil)
	}
	return &Gauges{cache: cache, auditor: auditor, log: log, now: now, found: map[string]int64{},
		missing: map[string]int64{}, differed: map[string]Sale{},
		turn: map[string]time.Time{}, next: map[string]time.Time{},
		depth:       desc("queue_depth", "Tickets waiting in the line."),
		capacity:    desc("queue_capacity", "Most tickets that may wait in the line."),
		oldest:      desc("queue_oldest_age_seconds", "Age of the oldest ticket that waits."),
		stock:       desc("stock_available", "Units that can still be ordered, by store.", "store"),
		dead:        desc("dead_letters", "Tickets given up on, kept for an operator."),
		missingDesc: desc("orders_missing", "Accepted orders that are in no store; anything but 0 is a defect."),
		difference:  desc("ledger_difference", "Units by which ledger and line differ; anything but 0 is a defect."),
	}
}

// Describe implements prometheus.Collector.
func (g *Gauges) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, ch) }

// Collect implements prometheus.Collector.
func (g *Gauges) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for _, e := range g.cache.List() {
		id := e.Sale.ID
		gauge(g.stock, float64(e.Stock.Available), id, "database")
		v := e.View()
		if !v.Exists {
			continue
		}
		gauge(g.depth, float64(v.Waiting), id)
		gauge(g.capacity, float64(v.Cap), id)
		gauge(g.oldest, v.OldestAge.Seconds(), id)
		gauge(g.stock, float64(v.Stock), id, "redis")
		gauge(g.dead, float64(v.Dead), id)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, n := range g.found {
		gauge(g.difference, float64(n), id)
		gauge(g.missingDesc, float64(g.missing[id]), id)
	}
}
