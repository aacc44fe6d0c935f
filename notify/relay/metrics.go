package relay

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/notify"
)

// The values of the label outcome of the counted deliveries.
const (
	countDelivered = "delivered"
	countRetry     = "retry"
	countDead      = "dead"
	countSkipped   = "skipped"   // the channel had nobody to tell
	countExpired   = "expired"   // not sent: older than Config.MaxAge
	countOvertaken = "overtaken" // not sent: what it says was no longer true
	countHeld      = "held"      // not sent: the channel is closed for a while, or over its rate
	countReleased  = "released"  // handed back unsent by a relay that stopped
	countFenced    = "fenced"    // another relay took the row over before the result was stored
)

type metrics struct {
	finished *prometheus.CounterVec
	pending  *prometheus.GaugeVec
	dead     *prometheus.GaugeVec
	off      *prometheus.GaugeVec
	pause    *prometheus.GaugeVec
}

// newMetrics creates the metrics and registers them on reg, unless that is nil. The registry must not have another
// relay's metrics.
func newMetrics(reg prometheus.Registerer, channels []notify.Channel) metrics {
	m := metrics{
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_notifications_total", Help: "Deliveries by what became of them.",
		}, []string{"channel", "outcome"}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluice_outbox_pending", Help: "Notifications neither delivered, overtaken nor dead.",
		}, []string{"channel"}),
		dead: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluice_notifications_dead", Help: "Notifications given up on and kept for an operator.",
		}, []string{"channel"}),
	}
	m.off = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sluice_outbox_off", Help: "Notifications that wait for a channel which is off.",
	}, []string{"channel"})
	m.pause = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sluice_channel_pause_seconds", Help: "How much longer a channel leaves its receiver alone.",
	}, []string{"channel"})
	for _, ch := range channels {
		m.pause.WithLabelValues(ch.Name()).Set(0)
		m.pending.WithLabelValues(ch.Name()).Set(0)
		m.dead.WithLabelValues(ch.Name()).Set(0)
		for _, o := range []string{countDelivered, countRetry, countDead, countSkipped, countOvertaken,
			countExpired, countHeld, countReleased, countFenced} {
			m.finished.WithLabelValues(ch.Name(), o)
		}
	}
	if reg != nil {
		reg.MustRegister(m.finished, m.pending, m.dead, m.off, m.pause)
	}
	return m
}
