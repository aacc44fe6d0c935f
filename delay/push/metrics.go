package push

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/delay"
	"sluice/delay/message"
)

type metrics struct {
	messages *prometheus.GaugeVec
	calls    *prometheus.CounterVec
	lateness prometheus.Histogram

	each    *prometheus.GaugeVec
	endings *prometheus.CounterVec
	full    *prometheus.GaugeVec
	missed  *prometheus.GaugeVec
	paused  *prometheus.GaugeVec
}

// newMetrics creates the metrics and registers them on reg, which must not hold another dispatcher's metrics.
func newMetrics(reg prometheus.Registerer) metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := metrics{
		messages: gauge("sluice_delay_messages", "Unfinished delayed messages of all subscriptions of a topic.",
			"topic", "state"),
		calls: counter("sluice_delay_fired_total", "Calls with delayed messages by what became of them.",
			"topic", "outcome"),
		lateness: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_delay_lateness_seconds",
			Help:    "From the time a message was due to the begin of its first call.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600}}),
		each: gauge("sluice_subscription_messages", "Unfinished messages of a subscription.",
			"topic", "subscription", "state"),
		endings: counter("sluice_subscription_attempts_total", "Attempts to deliver by what became of them.",
			"topic", "subscription", "outcome"),
		full: gauge("sluice_subscription_fill_ratio", "Unfinished messages of a subscription, of those it may hold.",
			"topic", "subscription"),
		missed: gauge("sluice_subscription_missed_messages", "Messages that a full subscription had no room for.",
			"topic", "subscription"),
		paused: gauge("sluice_subscription_pause_seconds",
			"How much longer the receiver of a subscription is left alone; 0: it is called.", "topic", "subscription"),
	}
	reg.MustRegister(m.messages, m.calls, m.lateness, m.each, m.endings, m.full, m.missed, m.paused)
	return m
}

func byState(c message.Counts) map[string]int64 {
	return map[string]int64{delay.Pending: c.Pending, delay.Firing: c.Firing, delay.Retrying: c.Retrying,
		delay.Dead: c.Dead}
}

// count sets the gauges of messages. A topic of which one subscription cannot be counted keeps its last sum.
func (m metrics) count(subs []delay.Subscription, counts []message.Counts, failed []error) {
	sums, broken := map[string]message.Counts{}, map[string]bool{}
	for i, sub := range subs {
		if failed[i] != nil {
			broken[sub.Topic] = true
			continue
		}
		sums[sub.Topic] = sums[sub.Topic].Plus(counts[i])
		for state, n := range byState(counts[i]) {
			m.each.WithLabelValues(sub.Topic, sub.Name, state).Set(float64(n))
		}
	}
	for topic, sum := range sums {
		if broken[topic] {
			continue
		}
		for state, n := range byState(sum) {
			m.messages.WithLabelValues(topic, state).Set(float64(n))
		}
	}
}

// ended counts attempts that ended. Those of readers are no calls.
func (m metrics) ended(sub delay.Subscription, outcome string, n int) {
	m.endings.WithLabelValues(sub.Topic, sub.Name, outcome).Add(float64(n))
	if sub.Kind != delay.Pull {
		m.calls.WithLabelValues(sub.Topic, outcome).Add(float64(n))
	}
}

func (m metrics) fill(sub delay.Subscription, fill float64, missed int64) {
	m.full.WithLabelValues(sub.Topic, sub.Name).Set(fill)
	m.missed.WithLabelValues(sub.Topic, sub.Name).Set(float64(missed))
}

// forget removes the series of a deleted subscription, so that their number stays bounded.
func (m metrics) forget(sub delay.Subscription) {
	labels := prometheus.Labels{"topic": sub.Topic, "subscription": sub.Name}
	m.each.DeletePartialMatch(labels)
	m.endings.DeletePartialMatch(labels)
	m.full.DeletePartialMatch(labels)
	m.missed.DeletePartialMatch(labels)
	m.paused.DeletePartialMatch(labels)
}

// forgetTopic removes the series of a topic that has no subscription any more.
func (m metrics) forgetTopic(topic string) {
	m.messages.DeletePartialMatch(prometheus.Labels{"topic": topic})
	m.calls.DeletePartialMatch(prometheus.Labels{"topic": topic})
}
