package expiry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/order"
	"sluice/queue/worker"
)

type metrics struct {
	finished *prometheus.CounterVec
	due      *prometheus.GaugeVec
	lag      prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		finished: worker.FinishedCounter(reg),
		due: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_payment_due",
			Help: "Confirmed orders that have a payment deadline."}, []string{"sale"}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_expiry_lag_seconds",
			Help:    "Time from an order's payment deadline to its end.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2.5, 11)}),
	}
	reg.MustRegister(m.due, m.lag)
	return m
}

func (m *metrics) expired(sale string, rows []order.Row, now time.Time) {
	m.finished.WithLabelValues(sale, order.Expired).Add(float64(len(rows)))
	for _, r := range rows {
		m.lag.Observe(max(now.Sub(order.Time(r.PayBy)).Seconds(), 0))
	}
}
