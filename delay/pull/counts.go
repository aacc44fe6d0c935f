package pull

import (
	"sync"

	"sluice/delay"
	"sluice/delay/message"

	"github.com/prometheus/client_golang/prometheus"
)

// readCounts counts what readers did with messages.
type readCounts struct {
	topics  *delay.Topics
	settled *prometheus.CounterVec

	mu   *sync.Mutex
	seen map[string]delay.Subscription // that have series
}

func newReadCounts(topics *delay.Topics, reg prometheus.Registerer) readCounts {
	c := readCounts{topics: topics, mu: &sync.Mutex{}, seen: map[string]delay.Subscription{},
		settled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_subscription_read_total",
			Help: "Messages that readers had received, by what they said of them."},
			[]string{"topic", "subscription", "outcome"})}
	reg.MustRegister(c.settled)
	return c
}

// add counts outcomes, and returns those that made dead letters.
func (c readCounts) add(sub delay.Subscription, outcomes []message.Outcome, stood []bool) message.DeadReport {
	counts, dead := message.Tally(sub, outcomes, stood)
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.topics.Snapshot()
	for name, was := range c.seen {
		if _, still := known.Subscription(name); !still {
			c.settled.DeletePartialMatch(prometheus.Labels{"topic": was.Topic, "subscription": name})
			delete(c.seen, name)
		}
	}
	c.seen[sub.Name] = sub
	for outcome, n := range counts {
		c.settled.WithLabelValues(sub.Topic, sub.Name, outcome).Add(float64(n))
	}
	return dead
}
