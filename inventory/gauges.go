package inventory

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// auditEvery is how often the difference between ledger and line is measured.
	auditEvery = 10 * time.Second
	// auditShare bounds what measuring may cost: after an audit that took a second comes a pause of fifty.
	auditShare = 50
	// auditLine is the longest line that is measured in the background: the look at a longer one would hold Redis up for more than
	// some 10 ms. Its last value stays until it is shorter; an audit that is asked for looks at any.
	auditLine = 10_000
	// auditFirst is how long a process runs before it audits: by then its book knows how long the lines are, and a worker
	// that was started to work off a backlog has begun.
	auditFirst = 500 * time.Millisecond
)

// Gauges shows the book's numbers as metrics and measures the difference
// between ledger and line of every active sale in the background. A sale whose last audit could
// not be made keeps its last value.
type Gauges struct {
	book                                             *Book
	auditor                                          *Auditor
	log                                              *slog.Logger
	now                                              func() time.Time
	depth, capacity, oldest, stock, dead, difference *prometheus.Desc

	mu    sync.Mutex
	found map[string]int64
}

// NewGauges returns the gauges of a book, to be registered by the caller.
func NewGauges(book *Book, auditor *Auditor, log *slog.Logger, now func() time.Time) *Gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sluice_"+name, help, append([]string{"sale"}, labels...), nil)
	}
	return &Gauges{book: book, auditor: auditor, log: log, now: now, found: map[string]int64{},
		depth:      desc("queue_depth", "Tickets waiting in the line."),
		capacity:   desc("queue_capacity", "Most tickets that may wait in the line."),
		oldest:     desc("queue_oldest_age_seconds", "Age of the oldest ticket that waits."),
		stock:      desc("stock_available", "Units that can still be ordered, by store.", "store"),
		dead:       desc("dead_letters", "Tickets given up on, kept for an operator."),
		difference: desc("ledger_difference", "Units by which ledger and line differ; anything but 0 is a defect."),
	}
}

// Describe implements prometheus.Collector.
func (g *Gauges) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, ch) }

// Collect implements prometheus.Collector.
func (g *Gauges) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for _, e := range g.book.List() {
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
	}
}

// Run audits every sale now and then until ctx ends.
func (g *Gauges) Run(ctx context.Context) {
	for wait := auditFirst; ; {
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		began := g.now()
		if err := g.measure(ctx); err != nil && ctx.Err() == nil {
			g.log.Warn("audit could not be made", "error", err)
		}
		wait = max(auditEvery, auditShare*g.now().Sub(began))
	}
}

func (g *Gauges) measure(ctx context.Context) error {
	var audits []SaleAudit
	for _, id := range g.book.Active() {
		if e, ok := g.book.Get(id); ok && e.View().Waiting > auditLine {
			continue
		}
		one, err := g.auditor.Balance(ctx, id)
		if err != nil {
			return err
		}
		audits = append(audits, one)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	found := make(map[string]int64, len(audits))
	for _, id := range g.book.Active() {
		if was, ok := g.found[id]; ok {
			found[id] = was
		}
	}
	for _, s := range audits {
		if !s.Compared {
			g.log.Warn("sale could not be audited", "sale", s.Sale, "why", s.Problems)
			continue
		}
		found[s.Sale] = s.Difference
		if !s.Clean {
			g.log.Error("audit found a problem", "sale", s.Sale, "difference", s.Difference, "problems", s.Problems)
		}
	}
	g.found = found
	return nil
}
