package worker

import (
	"errors"
	"time"

	"sluice/queue"

	"github.com/panjf2000/ants/v2"
	"github.com/prometheus/client_golang/prometheus"
)

type consumerMetrics struct {
	wait, fulfil, size prometheus.Histogram
	ended              *prometheus.CounterVec
	recovered          prometheus.Counter
	pauses             *prometheus.CounterVec
}

func newConsumerMetrics(reg prometheus.Registerer, pool *ants.PoolWithFuncGeneric[job], c *Consumer) *consumerMetrics {
	m := &consumerMetrics{
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_queue_wait_seconds",
			Help:    "Time from a ticket's admission to its end.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 13)}),
		fulfil: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_fulfil_seconds",
			Help: "Time to run and settle one batch.", Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 11)}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_fulfil_batch_size",
			Help: "Tickets in one batch.", Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000,
				10_000, 20_000}}),
		ended: FinishedCounter(reg),
		recovered: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_leases_recovered_total",
			Help: "Batches taken over because their worker did not settle them within the lease."}),
	}
	m.pauses = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_draining_pauses_total",
		Help: "Pauses of draining, 50 ms to 2 s each, by what failed: redis, database, tickets " +
			"(every one fails alike)."}, []string{"reason"})
	for _, reason := range pauseReasons() {
		m.pauses.WithLabelValues(reason)
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_draining_paused",
			Help: "1 from a fault that keeps the workers of this process from draining " +
				"until a batch goes through, by what failed.",
			ConstLabels: prometheus.Labels{"reason": reason}}, func() float64 { return c.pausedBy(reason) }))
	}
	workers := func(state string, count func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_pool_workers",
			Help:        "Workers of the pool by state.",
			ConstLabels: prometheus.Labels{"state": state}}, func() float64 { return float64(count()) })
	}
	reg.MustRegister(drainCollector{c})
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_draining_apart",
		Help: "Lines, or servers of a Redis Cluster with all of theirs, whose last turn failed: " +
			"they are tried apart from the others."},
		func() float64 { return float64(c.runnable.inDoubt()) }))
	reg.MustRegister(m.wait, m.fulfil, m.size, m.recovered, m.pauses, workers("running", pool.Running),
		workers("free", pool.Free))
	return m
}

// FinishedCounter counts orders by sale and how they ended. All rooms that end
// orders share the one that is registered first.
func FinishedCounter(reg prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_orders_finished_total",
		Help: "Orders that left the line, were paid or expired, by how."}, []string{"sale", "status"})
	var known prometheus.AlreadyRegisteredError
	if err := reg.Register(c); errors.As(err, &known) {
		return known.ExistingCollector.(*prometheus.CounterVec)
	} else if err != nil {
		panic(err) // as MustRegister: two metrics share a name, which a test would have found
	}
	return c
}

// ran counts a batch, or a multi-sale batch, as a whole.
func (m *consumerMetrics) ran(tickets int, took time.Duration) {
	m.fulfil.Observe(took.Seconds())
	m.size.Observe(float64(tickets))
}

// finished counts how the tickets of a batch ended.
func (m *consumerMetrics) finished(b queue.Batch, outcomes []queue.Outcome, now time.Time) {
	ended := map[string]int{}
	for i, o := range outcomes {
		status := statusOf(o)
		if status == "" {
			continue
		}
		ended[status]++
		// Outcomes are in the order of the tickets, behind those of what could not be read.
		if at := i - len(b.Poisoned); at >= 0 {
			m.wait.Observe(max(now.Sub(b.Tickets[at].AdmittedAt).Seconds(), 0))
		}
	}
	for status, n := range ended {
		m.ended.WithLabelValues(b.Sale, status).Add(float64(n))
	}
}

// statusOf returns how an order ended by this outcome; empty when it has not.
func statusOf(o queue.Outcome) string {
	switch o.Op {
	case queue.OpConfirm, queue.OpPaid: // paid is counted with the payment
		return "confirmed"
	case queue.OpFail, queue.OpDead:
		return "failed"
	case queue.OpClose:
		return "cancelled"
	case queue.OpEnded:
		return map[queue.State]string{queue.Cancelled: "cancelled", queue.Expired: "expired"}[o.State]
	}
	return ""
}
