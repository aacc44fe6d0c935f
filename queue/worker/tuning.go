package worker

import (
	"slices"
	"sync/atomic"

	"sluice/internal/pattern"
	"sluice/queue"

	"github.com/prometheus/client_golang/prometheus"
)

// tuning is what may change of a consumer while it runs.
type tuning struct {
	batch atomic.Int64
	held  atomic.Pointer[held]
	takes []string     // patterns of the only sales that are taken; empty: all
	bar   func() error // why nothing may be drained; nil: nothing keeps it
}

// held says which lines nobody claims from.
type held struct {
	all   bool
	sales []string
}

func newTuning(cfg queue.Config, bar func() error) *tuning {
	t := &tuning{bar: bar, takes: cfg.Sales}
	t.batch.Store(int64(cfg.Batch))
	t.held.Store(&held{all: !cfg.Drain, sales: slices.Clone(cfg.Held)})
	return t
}

// barred returns why nothing may be drained.
func (t *tuning) barred() error {
	if t.bar == nil {
		return nil
	}
	return t.bar()
}

// holds reports whether a line is left alone.
func (t *tuning) holds(sale string) bool {
	if t.barred() != nil || !pattern.Match(t.takes, sale) {
		return true
	}
	h := t.held.Load()
	return h.all || slices.Contains(h.sales, sale)
}

// SetBatch changes how many tickets a worker claims at once, from its next
// claim on; 1 to MaxBatch.
func (c *Consumer) SetBatch(n int) { c.tuning.batch.Store(int64(min(max(n, 1), queue.MaxBatch))) }

// SetPool changes how many batches run at the same time. Workers above a
// smaller size finish the batch they have; size is 1 to 1024.
func (c *Consumer) SetPool(size int) {
	c.pool.Tune(max(size, 1))
}

// Hold stops claiming from the lines of the sales named, or from all lines,
// until it is called again. Batches that run are finished and settled;
// tickets wait where they are.
func (c *Consumer) Hold(all bool, sales []string) {
	c.tuning.held.Store(&held{all: all, sales: slices.Clone(sales)})
	// Whoever was let go has work to look for; the sweep would find it a little later.
	for _, sale := range c.sales() {
		if !c.tuning.holds(sale) {
			c.runnable.add(sale)
		}
	}
}

// Holds reports whether the workers leave a line alone.
func (c *Consumer) Holds(sale string) bool { return c.tuning.holds(sale) }

// drainCollector shows by sale whether workers claim from its line.
type drainCollector struct{ c *Consumer }

func (d drainCollector) Describe(ch chan<- *prometheus.Desc) { ch <- drainDesc() }

func (d drainCollector) Collect(ch chan<- prometheus.Metric) {
	for _, sale := range d.c.sales() {
		open := 1.0
		if d.c.tuning.holds(sale) {
			open = 0
		}
		ch <- prometheus.MustNewConstMetric(drainDesc(), prometheus.GaugeValue, open, sale)
	}
}

func drainDesc() *prometheus.Desc {
	return prometheus.NewDesc("sluice_drain_open",
		"1 while the workers of this process claim from a sale's line, 0 while an operator has stopped them.",
		[]string{"sale"}, nil)
}
