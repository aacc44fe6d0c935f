package inventory

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// AuditAges shows for how long ledger and line of each active sale have not been compared: a difference in between
// would be known to nobody. Lines that are too long for the background are left out.
type AuditAges struct {
	book    *Book
	auditor *Auditor
	since   time.Time
	desc    *prometheus.Desc
}

// NewAuditAges returns the ages of what this auditor compares in the background, to be registered by the caller.
func NewAuditAges(book *Book, auditor *Auditor) *AuditAges {
	return &AuditAges{book: book, auditor: auditor, since: auditor.now(), desc: prometheus.NewDesc("sluice_audit_age_seconds",
		"Seconds since ledger and line were last compared; since the start if they never were.", []string{"sale"}, nil)}
}

// Describe implements prometheus.Collector.
func (a *AuditAges) Describe(ch chan<- *prometheus.Desc) { ch <- a.desc }

// Collect implements prometheus.Collector.
func (a *AuditAges) Collect(ch chan<- prometheus.Metric) {
	now := a.auditor.now()
	for _, id := range a.book.Active() {
		e, ok := a.book.Get(id)
		if !ok || e.View().Waiting > auditLine {
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

// comparedAt is when they were last compared; zero if never.
func (a *Auditor) comparedAt(id string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.compared[id]
}
