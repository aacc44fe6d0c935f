package gateway

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/internal/meter"
)

const (
	refusalWindow = 5 * time.Second
	refusalSales  = 64 // at most that many sales are told of, the busiest
)

// refusalMeter measures how many orders of each sale are refused a second. Safe for concurrent use.
type refusalMeter struct {
	mu     sync.Mutex
	totals meter.Window[map[string]float64] // over refusalWindow
}

// observe returns the rates since the look that is refusalWindow old, or the first.
func (m *refusalMeter) observe(now time.Time, totals map[string]float64) map[string]float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.totals.Add(now, totals, refusalWindow)
	seconds := now.Sub(first.At).Seconds()
	if seconds <= 0 {
		return nil
	}
	rates := map[string]float64{}
	for sale, total := range totals {
		if more := total - first.Value[sale]; more > 0 {
			rates[sale] = more / seconds
		}
	}
	if len(rates) > refusalSales {
		busiest := slices.SortedFunc(maps.Keys(rates), func(a, b string) int { return cmp.Compare(rates[b], rates[a]) })
		for _, sale := range busiest[refusalSales:] {
			delete(rates, sale)
		}
	}
	return rates
}

// Refused is how many orders of each sale this gateway refuses a second, over about the last five
// seconds in which it was called once a second; sales without refusals are absent, and so are all
// but the 64 busiest.
func (g *Gateway) Refused() map[string]float64 {
	return g.refusals.observe(g.now(), g.admission.metrics.refusals())
}
