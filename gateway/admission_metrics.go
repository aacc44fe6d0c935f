package gateway

import (
	"sync"

	"sluice/api"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

type admissionMetrics struct {
	admitted *prometheus.CounterVec
	rejected *prometheus.CounterVec
	seconds  prometheus.Histogram
	size     prometheus.Histogram
	sales    sync.Map   // sale id → *saleCounters; bounded by the sales of the book
	making   sync.Mutex // held while series are made or let go
}

// saleCounters are one sale's series, resolved once.
type saleCounters struct {
	admitted prometheus.Counter
	rejected sync.Map // Code → prometheus.Counter
	seen     float64  // orders counted at the last look of forget
}

func newAdmissionMetrics(reg prometheus.Registerer) *admissionMetrics {
	m := &admissionMetrics{
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

// admit counts an order taken into a sale's line.
func (m *admissionMetrics) admit(sale string) {
	if known, ok := m.sales.Load(sale); ok {
		known.(*saleCounters).admitted.Inc()
		return
	}
	m.making.Lock()
	defer m.making.Unlock()
	m.of(sale).admitted.Inc()
}

// reject counts an order that a sale refused.
func (m *admissionMetrics) reject(sale string, code api.Code) {
	if known, ok := m.sales.Load(sale); ok {
		if counter, ok := known.(*saleCounters).rejected.Load(code); ok {
			counter.(prometheus.Counter).Inc()
			return
		}
	}
	m.making.Lock()
	defer m.making.Unlock()
	counter := m.rejected.WithLabelValues(sale, string(code))
	counter.Inc()
	m.of(sale).rejected.Store(code, counter)
}

// of returns the counters of a sale. The caller holds making.
func (m *admissionMetrics) of(sale string) *saleCounters {
	if known, ok := m.sales.Load(sale); ok {
		return known.(*saleCounters)
	}
	c := &saleCounters{admitted: m.admitted.WithLabelValues(sale)}
	m.sales.Store(sale, c)
	return c
}

// forget lets go of the series of sales that are over and of which nothing was
// counted since it was last called.
func (m *admissionMetrics) forget(over func(sale string) bool) {
	m.making.Lock()
	defer m.making.Unlock()
	m.sales.Range(func(key, known any) bool {
		sale, counters := key.(string), known.(*saleCounters)
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

// refusals is how many orders of each sale were ever refused here.
func (m *admissionMetrics) refusals() map[string]float64 {
	totals := map[string]float64{}
	m.sales.Range(func(sale, known any) bool {
		if n := known.(*saleCounters).refusals(); n > 0 {
			totals[sale.(string)] = n
		}
		return true
	})
	return totals
}

// refusals is how many orders of the sale were refused, with whatever code.
func (c *saleCounters) refusals() (sum float64) {
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

// refused counts an order that was not taken. Unknown sales share one label:
// whoever makes ids up must not make series up.
func (a *Admission) refused(sale string, code api.Code) {
	if _, ok := a.book.Get(sale); !ok {
		a.metrics.rejected.WithLabelValues("unknown", string(code)).Inc()
		return
	}
	a.metrics.reject(sale, code)
}
