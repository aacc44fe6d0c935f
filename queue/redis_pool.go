package queue

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// PoolCollector reports the client's connection pool, summed over the servers
// it is connected to. Rising timeouts mean commands find no free connection.
type PoolCollector struct {
	stats func() *redis.PoolStats

	hits, misses, timeouts, stale, waits, waited *prometheus.Desc
	connections, pending                         *prometheus.Desc
}

// NewPoolCollector returns a collector over the pool of client. Reading it
// costs Redis nothing.
func NewPoolCollector(client redis.UniversalClient) *PoolCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sluice_redis_pool_"+name, help, labels, nil)
	}
	return &PoolCollector{
		stats:       client.PoolStats,
		hits:        desc("hits_total", "Commands that found a free connection."),
		misses:      desc("misses_total", "Commands that found no free connection and opened one or waited."),
		timeouts:    desc("timeouts_total", "Commands that gave up waiting for a connection."),
		stale:       desc("stale_connections_total", "Connections closed because they were too old or broken."),
		waits:       desc("waits_total", "Commands that waited for a connection."),
		waited:      desc("wait_seconds_total", "Time commands spent waiting for a connection."),
		connections: desc("connections", "Open connections by state.", "state"),
		pending:     desc("pending_requests", "Commands waiting for a connection now."),
	}
}

// Describe sends the descriptions of all metrics.
func (c *PoolCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.hits, c.misses, c.timeouts, c.stale, c.waits, c.waited, c.connections, c.pending} {
		out <- d
	}
}

// Collect sends the pool's present numbers.
func (c *PoolCollector) Collect(out chan<- prometheus.Metric) {
	s := c.stats()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	send(c.hits, prometheus.CounterValue, float64(s.Hits))
	send(c.misses, prometheus.CounterValue, float64(s.Misses))
	send(c.timeouts, prometheus.CounterValue, float64(s.Timeouts))
	send(c.stale, prometheus.CounterValue, float64(s.StaleConns))
	send(c.waits, prometheus.CounterValue, float64(s.WaitCount))
	send(c.waited, prometheus.CounterValue, time.Duration(s.WaitDurationNs).Seconds())
	// The two are read one after the other, so idle may exceed total for a moment.
	send(c.connections, prometheus.GaugeValue, float64(s.IdleConns), "idle")
	send(c.connections, prometheus.GaugeValue, float64(s.TotalConns-min(s.IdleConns, s.TotalConns)), "used")
	send(c.pending, prometheus.GaugeValue, float64(s.PendingRequests))
}
