package audit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/inventory"
)

// Ages shows for how long ledger and line of each active sale have not been compared. Nobody would know a difference
// in between. Lines that are too long for the background are left out.
type Ages struct {
	cache   *inventory.SaleCache
	auditor *Auditor
	since   time.Time
	desc    *prometheus.Desc
}

// NewAges returns the ages of what this auditor compares in the background, to be registered by the caller.
func NewAges(cache *inventory.SaleCache, auditor *Auditor) *Ages {
	return &Ages{cache: cache, auditor: auditor, since: auditor.now(),
		desc: prometheus.NewDesc("sluice_audit_age_seconds",
			"Seconds since ledger and line were last compared; since the start if they never were.",
			[]string{"sale"}, nil)}
}

// Describe implements prometheus.Collector.
func (a *Ages) Describe(ch chan<- *prometheus.Desc) { ch <- a.desc }

// Collect implements prometheus.Collector.
func (a *Ages) Collect(ch chan<- prometheus.Metric) {
	now := a.auditor.now()
	for _, id := range a.cache.Active() {
		e, ok := a.cache.Get(id)
		if !ok || e.View().Waiting > longestLine {
			continue
		}
		last := a.auditor.comparedAt(id)
		for _, other := range []time.Time{a.since, time.UnixMilli(e.Sale.CreatedAt)} {
			if other.After(last) {
				last = other
			}
		}
		ch <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, max(now.Sub(last).Seconds(), 0), id)
	}
}

// maxCompared bounds the sales that an auditor remembers. Of more, all are forgotten and noted anew.
const maxCompared = 100_000

// noteCompared notes that the stores have just been compared for a sale.
func (a *Auditor) noteCompared(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.compared == nil || len(a.compared) >= maxCompared {
		a.compared = make(map[string]time.Time)
	}
	a.compared[id] = a.now()
}

// comparedAt returns when they were last compared; zero if never.
func (a *Auditor) comparedAt(id string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.compared[id]
}
