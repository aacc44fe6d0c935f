package work

import "github.com/prometheus/client_golang/prometheus"

// What became of received messages on their way out.
const (
	outcomeReceived   = "received"
	outcomeHandedBack = "handed_back" // the receiver had hung up
)

// outcomeAdded is the outcome of messages that were taken; others are codes of problems.
const outcomeAdded = "added"

// metrics counts what other systems do. Labels name only topics and subscriptions that exist.
type metrics struct {
	published *prometheus.CounterVec
	received  *prometheus.CounterVec
	waiting   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		published: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_work_published_total",
			Help: "Calls that added messages on the work listener, by added or the code of the refusal."},
			[]string{"topic", "outcome"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_work_received_total",
			Help: "Messages that receivers were given on the work listener; handed_back: they had hung up."},
			[]string{"topic", "subscription", "outcome"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_work_waiting_receivers",
			Help: "Receivers that wait for messages on the work listener."}),
	}
	reg.MustRegister(m.published, m.received, m.waiting)
	return m
}

// forgetTopic drops the series of a topic that is gone.
func (m *metrics) forgetTopic(topic string) {
	m.published.DeletePartialMatch(prometheus.Labels{"topic": topic})
}

// forgetSubscription drops the series of a subscription that is gone.
func (m *metrics) forgetSubscription(name string) {
	m.received.DeletePartialMatch(prometheus.Labels{"subscription": name})
}
