package payment

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/order"
	"sluice/queue/worker"
)

type metrics struct {
	payments *prometheus.CounterVec
	finished *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		payments: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_payments_total",
			Help: "Payments the provider has told of, by what became of them."}, []string{"outcome"}),
		finished: worker.FinishedCounter(reg),
	}
	reg.MustRegister(m.payments)
	return m
}

func (m *metrics) count(done recorded, err error) {
	outcome := done.payment.Outcome
	switch {
	case errors.Is(err, order.ErrNotFound):
		outcome = "unknown_order"
	case errors.Is(err, ErrUnconfirmed):
		outcome = "unconfirmed"
	case errors.Is(err, ErrConflict):
		outcome = "conflict"
	case err != nil:
		outcome = "unavailable"
	case done.repeated:
		outcome = "repeated"
	}
	m.payments.WithLabelValues(outcome).Inc()
}
