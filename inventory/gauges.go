package inventory

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/apart"
)

const (
	// auditEvery is how often the difference between ledger and line is measured.
	auditEvery = 4 * time.Second
	// auditAgain is when a difference is looked at again: one that stands is mended.
	auditAgain = time.Second
	// auditShare bounds what measuring may cost: after audits that took a second comes a pause of fifty.
	auditShare = 50
	// auditLine is the longest line that is measured in the background: the look at a longer one would hold Redis up
	// for more than some 10 ms. Its last value stays until it is shorter; an audit that is asked for looks at any.
	auditLine    = 10_000
	auditServers = 16 // servers of a cluster whose lines are measured at a time
	// auditFirst is how long a process runs before it audits: by then its cache knows how long the lines are, and a
	// worker that was started to work off a backlog has begun.
	auditFirst = 500 * time.Millisecond
)

// Gauges shows the cache's numbers as metrics and measures the difference
// between ledger and line of every active sale in the background. A sale whose last audit could
// not be made keeps its last value.
type Gauges struct {
	cache                                            *SaleCache
	auditor                                          *Auditor
	log                                              *slog.Logger
	now                                              func() time.Time
	depth, capacity, oldest, stock, dead, difference *prometheus.Desc
	missingDesc                                      *prometheus.Desc

	mend func(ctx context.Context, s SaleAudit) // what is done about a difference that stands; nil: nothing

	mu      sync.Mutex
	found   map[string]int64
	missing map[string]int64
	suspect map[string]SaleAudit // differed at the last look
	turn    map[string]time.Time // when each sale was audited last, in vain or not
	next    map[string]time.Time // when the lines of each server are audited next
}

// NewGauges returns the gauges of a cache, to be registered by the caller.
func NewGauges(cache *SaleCache, auditor *Auditor, log *slog.Logger, now func() time.Time) *Gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sluice_"+name, help, append([]string{"sale"}, labels...), nil)
	}
	return &Gauges{cache: cache, auditor: auditor, log: log, now: now, found: map[string]int64{},
		missing: map[string]int64{}, suspect: map[string]SaleAudit{},
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

// Run audits every sale now and then until ctx ends, the lines of each server
// in turns of its own.
func (g *Gauges) Run(ctx context.Context) {
	rounds := apart.New(auditServers, auditAgain)
	defer rounds.Wait()
	next := time.NewTimer(auditFirst)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
		on := g.cache.lines.ByServer(ctx, g.cache.Active())
		rounds.Round(ctx, g.due(slices.Sorted(maps.Keys(on))), func(ctx context.Context, server string) error {
			if err := g.measureOn(ctx, server, on[server]); err != nil && ctx.Err() == nil {
				g.log.Warn("audit could not be made", "error", err)
			}
			return nil
		}, func(_ string, err error) { g.log.Error("an audit panicked", "error", err) })
		next.Reset(auditAgain)
	}
}

// due are those of the servers whose lines are to be audited again.
func (g *Gauges) due(servers []string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	return slices.DeleteFunc(servers, func(server string) bool { return now.Before(g.next[server]) })
}

// measure audits every sale once.
func (g *Gauges) measure(ctx context.Context) error {
	var failed []error
	for server, sales := range g.cache.lines.ByServer(ctx, g.cache.Active()) {
		failed = append(failed, g.measureOn(ctx, server, sales))
	}
	return errors.Join(failed...)
}

// measureOn audits the sales whose lines are on one server, those first that
// have waited longest. A look that fails says nothing about the others; after
// some time of such looks the rest waits for the next turn.
func (g *Gauges) measureOn(ctx context.Context, server string, sales []string) error {
	var audits []SaleAudit
	var failed []error
	var spent, failing time.Duration
	for _, id := range g.inTurn(sales) {
		if failing >= auditPatience {
			break
		}
		if e, ok := g.cache.Get(id); ok && e.View().Waiting > auditLine {
			continue
		}
		began := g.audited(id)
		one, err := g.auditor.Balance(ctx, id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		took := g.now().Sub(began)
		if err != nil {
			failed, failing = append(failed, err), failing+took
			continue
		}
		audits, spent = append(audits, one), spent+took
	}
	g.show(audits)
	pause := max(auditEvery, auditShare*spent)
	if g.look(ctx, audits) {
		pause = auditAgain
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next[server] = g.now().Add(pause)
	return errors.Join(failed...)
}

// audited notes that a sale is audited now.
func (g *Gauges) audited(sale string) (now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now = g.now()
	g.turn[sale] = now
	return now
}

// inTurn is the sales, those first that were audited longest ago.
func (g *Gauges) inTurn(sales []string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	sales = slices.Clone(sales)
	slices.SortStableFunc(sales, func(a, b string) int { return g.turn[a].Compare(g.turn[b]) })
	return sales
}

// show keeps what was found for the next collection. A sale that was not compared keeps its last value.
func (g *Gauges) show(audits []SaleAudit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found, missing := make(map[string]int64, len(audits)), make(map[string]int64, len(audits))
	for _, id := range g.cache.Active() {
		if was, ok := g.found[id]; ok {
			found[id], missing[id] = was, g.missing[id]
		}
	}
	for _, s := range audits {
		if !s.Compared {
			g.log.Warn("sale could not be audited", "sale", s.Sale, "why", s.Problems)
			continue
		}
		found[s.Sale], missing[s.Sale] = s.Difference, s.Missing
		if !s.Clean {
			g.log.Error("audit found a problem", "sale", s.Sale, "difference", s.Difference, "problems", s.Problems)
		}
	}
	g.found, g.missing = found, missing
	for id := range g.suspect {
		if _, active := found[id]; !active {
			delete(g.suspect, id)
		}
	}
}

// look mends the differences that stand: the same as at the look before, under
// the same loading of the line. It reports whether there are new ones.
func (g *Gauges) look(ctx context.Context, audits []SaleAudit) (suspect bool) {
	for _, s := range audits {
		was, known := g.suspected(s)
		if s.Compared && (s.Difference != 0 || s.Missing != 0) {
			if known && was.Epoch == s.Epoch && was.Difference == s.Difference && was.Missing == s.Missing &&
				g.mend != nil {
				g.mend(ctx, s)
				continue
			}
			g.suspects(s)
			suspect = true
		}
	}
	return suspect
}

// suspected takes what was found of a sale at the look before.
func (g *Gauges) suspected(s SaleAudit) (was SaleAudit, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was, known = g.suspect[s.Sale]
	delete(g.suspect, s.Sale)
	return was, known
}

func (g *Gauges) suspects(s SaleAudit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.suspect[s.Sale] = s
}

// MendBy names what is done about a difference that stands. Call it before Run.
func (g *Gauges) MendBy(mend func(ctx context.Context, s SaleAudit)) { g.mend = mend }
