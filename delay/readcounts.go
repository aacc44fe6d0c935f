package delay

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// readCounts counts what readers did with messages.
type readCounts struct {
	topics  *Topics
	settled *prometheus.CounterVec

	mu   *sync.Mutex
	seen map[string]Subscription // that have series
}

func newReadCounts(topics *Topics, reg prometheus.Registerer) readCounts {
	c := readCounts{topics: topics, mu: &sync.Mutex{}, seen: map[string]Subscription{},
		settled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_subscription_read_total",
			Help: "Messages that readers had received, by what they said of them."},
			[]string{"topic", "subscription", "outcome"})}
	reg.MustRegister(c.settled)
	return c
}

// add counts outcomes, and returns those that made dead letters.
func (c readCounts) add(sub Subscription, outcomes []outcome, stood []bool) DeadReport {
	counts, dead := tally(sub, outcomes, stood)
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.topics.copy.Load().named
	for name, was := range c.seen {
		if _, still := known[name]; !still {
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

// tally counts outcomes of a subscription by what became of them.
func tally(sub Subscription, outcomes []outcome, stored []bool) (counts map[string]int, dead DeadReport) {
	counts, dead = map[string]int{}, DeadReport{Subscription: sub}
	for i, o := range outcomes {
		switch {
		case !stored[i]:
			counts[countFenced]++
		case o.op == opDelivered:
			counts[countDelivered]++
		case o.op == opRetry:
			counts[countRetry]++
		case o.op == opBack:
			counts[countReleased]++
		default:
			counts[countDead]++
			dead.Count, dead.ID, dead.Error = dead.Count+1, o.ID, o.err
		}
	}
	return counts, dead
}
