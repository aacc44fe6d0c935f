package delay

import "github.com/prometheus/client_golang/prometheus"

// The values of the label result of the counted calls.
const (
	countDelivered = "delivered"
	countRetry     = "retry"
	countDead      = "dead"
	countReleased  = "released"  // cut off by a process that stopped, and handed back
	countFenced    = "fenced"    // the lease had ended before the result was stored
	countReclaimed = "reclaimed" // no result came before the lease ended: the dispatcher died
)

type metrics struct {
	messages *prometheus.GaugeVec
	calls    *prometheus.CounterVec
	lateness prometheus.Histogram
}

// newMetrics creates the metrics and registers them on reg, which must not hold another dispatcher's metrics.
func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		messages: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_delay_messages",
			Help: "Unfinished delayed messages."},
			[]string{"topic", "state"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_delay_fired_total",
			Help: "Calls with delayed messages by what became of them."},
			[]string{"topic", "outcome"}),
		lateness: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_delay_lateness_seconds",
			Help:    "From the time a message was due to the begin of its first call.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600}}),
	}
	reg.MustRegister(m.messages, m.calls, m.lateness)
	return m
}

// count sets the gauges of a topic's messages.
func (m metrics) count(topic string, c Counts) {
	for state, n := range map[string]int64{Pending: c.Pending, Firing: c.Firing, Retrying: c.Retrying, Dead: c.Dead} {
		m.messages.WithLabelValues(topic, state).Set(float64(n))
	}
}

// forget removes the series of a deleted topic, so that their number stays bounded.
func (m metrics) forget(topic string) {
	m.messages.DeletePartialMatch(prometheus.Labels{"topic": topic})
	m.calls.DeletePartialMatch(prometheus.Labels{"topic": topic})
}
