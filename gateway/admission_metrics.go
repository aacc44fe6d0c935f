package gateway

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

type admissionMetrics struct {
	admitted *prometheus.CounterVec
	rejected *prometheus.CounterVec
	seconds  prometheus.Histogram
	size     prometheus.Histogram
	sales    sync.Map // sale id → *saleCounters; bounded by the sales of the book
}

// saleCounters are one sale's series, resolved once.
type saleCounters struct {
	admitted prometheus.Counter
	rejected sync.Map // Code → prometheus.Counter
}

func newAdmissionMetrics(reg prometheus.Registerer) *admissionMetrics {
	m := &admissionMetrics{
		admitted: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_orders_admitted_total",
			Help: "Orders taken into a line."}, []string{"sale"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_orders_rejected_total",
			Help: "Orders refused, by the problem's code."}, []string{"sale", "code"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_admission_seconds",
			Help: "Time from asking for a place in line to the answer.", Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14)}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_admission_batch_size",
			Help: "Requests that travelled to Redis in one call.", Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}}),
	}
	reg.MustRegister(m.admitted, m.rejected, m.seconds, m.size)
	return m
}

func (m *admissionMetrics) of(sale string) *saleCounters {
	if known, ok := m.sales.Load(sale); ok {
		return known.(*saleCounters)
	}
	known, _ := m.sales.LoadOrStore(sale, &saleCounters{admitted: m.admitted.WithLabelValues(sale)})
	return known.(*saleCounters)
}

// refused counts an order that was not taken. Unknown sales share one label:
// whoever makes ids up must not make series up.
func (a *Admission) refused(sale string, code Code) {
	if _, ok := a.book.Get(sale); !ok {
		a.metrics.rejected.WithLabelValues("unknown", string(code)).Inc()
		return
	}
	counters := a.metrics.of(sale)
	counter, ok := counters.rejected.Load(code)
	if !ok {
		counter, _ = counters.rejected.LoadOrStore(code, a.metrics.rejected.WithLabelValues(sale, string(code)))
	}
	counter.(prometheus.Counter).Inc()
}
