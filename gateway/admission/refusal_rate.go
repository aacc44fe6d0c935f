package admission

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/internal/meter"
)

const (
	rateWindow = 5 * time.Second
	rateSales  = 64 // at most that many sales are named, the busiest
)

// rateMeter measures how many orders of each sale are refused a second. Safe for concurrent use.
type rateMeter struct {
	mu     sync.Mutex
	totals meter.Window[map[string]float64] // over rateWindow
}

// observe returns the rates since the sample that is rateWindow old, or the first.
func (m *rateMeter) observe(now time.Time, totals map[string]float64) map[string]float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.totals.Add(now, totals, rateWindow)
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
	if len(rates) > rateSales {
		busiest := slices.SortedFunc(maps.Keys(rates), func(a, b string) int { return cmp.Compare(rates[b], rates[a]) })
		for _, sale := range busiest[rateSales:] {
			delete(rates, sale)
		}
	}
	return rates
}

// RefusalRates returns how many orders of each sale this gateway refuses a second. Called once a second, it measures
// over about five seconds. Only the 64 busiest sales with refusals are present.
func (a *Admitter) RefusalRates() map[string]float64 {
	return a.rates.observe(a.now(), a.metrics.refusals())
}
