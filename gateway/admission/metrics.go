package admission

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sluice/api"
)

// metrics counts admitted and refused orders by sale.
type metrics struct {
	admitted *prometheus.CounterVec
	rejected *prometheus.CounterVec
	seconds  prometheus.Histogram
	size     prometheus.Histogram
	sales    sync.Map   // sale id → *saleSeries; bounded by the sales of the cache
	making   sync.Mutex // locked while series are created or removed
}

// saleSeries has the series of one sale, resolved once.
type saleSeries struct {
	admitted prometheus.Counter
	rejected sync.Map // Code → prometheus.Counter
	seen     float64  // orders counted when forget was last called
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		admitted: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_orders_admitted_total",
			Help: "Orders taken into a line."}, []string{"sale"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_orders_rejected_total",
			Help: "Orders refused, by the problem's code."}, []string{"sale", "code"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_admission_seconds",
			Help:    "Time from asking for a place in line to the answer.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14)}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_admission_batch_size",
			Help:    "Requests that travelled to Redis in one call.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}}),
	}
	reg.MustRegister(m.admitted, m.rejected, m.seconds, m.size)
	return m
}

// admit counts an admitted order.
func (m *metrics) admit(sale string) {
	if known, ok := m.sales.Load(sale); ok {
		known.(*saleSeries).admitted.Inc()
		return
	}
	m.making.Lock()
	defer m.making.Unlock()
	m.seriesOf(sale).admitted.Inc()
}

// reject counts an order that a sale refused.
func (m *metrics) reject(sale string, code api.Code) {
	if known, ok := m.sales.Load(sale); ok {
		if counter, ok := known.(*saleSeries).rejected.Load(code); ok {
			counter.(prometheus.Counter).Inc()
			return
		}
	}
	m.making.Lock()
	defer m.making.Unlock()
	counter := m.rejected.WithLabelValues(sale, string(code))
	counter.Inc()
	m.seriesOf(sale).rejected.Store(code, counter)
}

// seriesOf returns the counters of a sale. The caller must hold making.
func (m *metrics) seriesOf(sale string) *saleSeries {
	if known, ok := m.sales.Load(sale); ok {
		return known.(*saleSeries)
	}
	c := &saleSeries{admitted: m.admitted.WithLabelValues(sale)}
	m.sales.Store(sale, c)
	return c
}

// forget removes the series of sales that are over and had no count since its last call.
func (m *metrics) forget(over func(sale string) bool) {
	m.making.Lock()
	defer m.making.Unlock()
	m.sales.Range(func(key, known any) bool {
		sale, counters := key.(string), known.(*saleSeries)
		total := valueOf(counters.admitted) + counters.refusals()
		if total == counters.seen && over(sale) {
			m.sales.Delete(sale)
			m.admitted.DeleteLabelValues(sale)
			m.rejected.DeletePartialMatch(prometheus.Labels{"sale": sale})
		}
		counters.seen = total
		return true
	})
}

// refusals returns how many orders of each sale were refused here.
func (m *metrics) refusals() map[string]float64 {
	totals := map[string]float64{}
	m.sales.Range(func(sale, known any) bool {
		if n := known.(*saleSeries).refusals(); n > 0 {
			totals[sale.(string)] = n
		}
		return true
	})
	return totals
}

// refusals returns how many orders of the sale were refused, with any code.
func (c *saleSeries) refusals() (sum float64) {
	c.rejected.Range(func(_, counter any) bool {
		sum += valueOf(counter.(prometheus.Counter))
		return true
	})
	return sum
}

func valueOf(c prometheus.Counter) float64 {
	var value dto.Metric
	if c.Write(&value) != nil {
		return 0
	}
	return value.GetCounter().GetValue()
}

// CountRefusal counts a refused order. Unknown sales share one label, so that invented ids create no series.
func (a *Admitter) CountRefusal(sale string, code api.Code) {
	if _, ok := a.sales.Get(sale); !ok {
		a.metrics.rejected.WithLabelValues("unknown", string(code)).Inc()
		return
	}
	a.metrics.reject(sale, code)
}
