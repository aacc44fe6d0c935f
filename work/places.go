package work

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// places bounds how many receivers wait, in all and for each subscription. Safe for concurrent use.
type places struct {
	total, each int
	gauge       prometheus.Gauge

	mu    sync.Mutex
	taken int
	of    map[string]int // by subscription
}

func newPlaces(cfg Config, gauge prometheus.Gauge) *places {
	return &places{total: cfg.MaxWaiting, each: cfg.MaxWaitingEach, gauge: gauge, of: map[string]int{}}
}

// take takes a place for a receiver of a subscription; false: there is none.
func (p *places) take(subscription string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= p.total || p.of[subscription] >= p.each {
		return false
	}
	p.taken++
	p.of[subscription]++
	p.gauge.Set(float64(p.taken))
	return true
}

// leave gives a place back.
func (p *places) leave(subscription string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.of[subscription]--; p.of[subscription] == 0 {
		delete(p.of, subscription)
	}
	p.gauge.Set(float64(p.taken))
}
