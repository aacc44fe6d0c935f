package order

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/queue/worker"
)

type payerMetrics struct {
	payments *prometheus.CounterVec
	finished *prometheus.CounterVec
}

func newPayerMetrics(reg prometheus.Registerer) *payerMetrics {
	m := &payerMetrics{
		payments: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_payments_total",
			Help: "Payments the provider has told of, by what became of them."}, []string{"outcome"}),
		finished: worker.FinishedCounter(reg),
	}
	reg.MustRegister(m.payments)
	return m
}

func (m *payerMetrics) count(done recorded, err error) {
	outcome := done.payment.Outcome
	switch {
	case errors.Is(err, ErrNotFound):
		outcome = "unknown_order"
	case errors.Is(err, ErrUnconfirmed):
		outcome = "unconfirmed"
	case errors.Is(err, ErrPaymentConflict):
		outcome = "conflict"
	case err != nil:
		outcome = "unavailable"
	case done.repeated:
		outcome = "repeated"
	}
	m.payments.WithLabelValues(outcome).Inc()
}

type expirerMetrics struct {
	finished *prometheus.CounterVec
	due      *prometheus.GaugeVec
	lag      prometheus.Histogram
}

func newExpirerMetrics(reg prometheus.Registerer) *expirerMetrics {
	m := &expirerMetrics{
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

func (m *expirerMetrics) expired(sale string, rows []Row, now time.Time) {
	m.finished.WithLabelValues(sale, Expired).Add(float64(len(rows)))
	for _, r := range rows {
		m.lag.Observe(max(now.Sub(atMS(r.PayBy)).Seconds(), 0))
	}
}
