package redis

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// options returns the options of the client library.
func (c Config) options() (*goredis.UniversalOptions, error) {
	conf, err := c.TLS.load()
	if err != nil {
		return nil, err
	}
	return &goredis.UniversalOptions{
		Addrs: c.Addrs, MasterName: c.MasterName, DB: c.DB, TLSConfig: conf,
		Username: c.Username, Password: c.Password,
		SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword,
		IsClusterMode: c.Mode == ModeCluster,
		DialTimeout:   c.DialTimeout, DialerRetries: 1,
		ReadTimeout: c.Timeout, WriteTimeout: c.Timeout, PoolTimeout: c.Timeout,
		PoolSize: c.PoolSize, ContextTimeoutEnabled: true, MaxRetries: -1,
		DisableIdentity:          true, // CLIENT SETINFO is unknown before 7.2
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}, nil
}

func newClient(opts *goredis.UniversalOptions, mode string) goredis.UniversalClient {
	client := goredis.NewUniversalClient(opts)
	if mode == ModeCluster {
		// MaxRetries does not reach the cluster client's own redirect loop.
		client.AddHook(sendOnce{})
	}
	return client
}

// sendOnce keeps a cluster client from repeating a command after an error that leaves open whether it ran. Redirects
// are still followed.
type sendOnce struct{}

func (sendOnce) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (sendOnce) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		// The client recognises commands that go to all shards by their Go type, so only the others may be wrapped.
		switch cmd.Name() {
		case "eval", "evalsha", "fcall", "lpush", "rpush", "lpop", "rpop", "lmove", "incr", "incrby", "decrby",
			"hincrby":
			cmd = onceCmd{cmd}
		}
		return next(ctx, cmd)
	}
}

func (sendOnce) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		once := make([]goredis.Cmder, len(cmds))
		for i, cmd := range cmds {
			once[i] = cmd
			// The client recognises MULTI and EXEC by their Go type.
			if name := cmd.Name(); name != "multi" && name != "exec" {
				once[i] = onceCmd{cmd}
			}
		}
		return next(ctx, once)
	}
}

type onceCmd struct{ goredis.Cmder }

func (onceCmd) NoRetry() bool { return true }

// LogClient sends the messages of the Redis client library, such as failed dials, to log at debug level. The library
// has one logger for the process: call LogClient once, before Open.
func LogClient(log *slog.Logger) { goredis.SetLogger(clientLog{log}) }

type clientLog struct{ log *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, args ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "redis client: "+fmt.Sprintf(format, args...))
	}
}

// PoolCollector reports the client's connection pool, summed over all servers. Rising timeouts mean that commands find
// no free connection.
type PoolCollector struct {
	stats func() *goredis.PoolStats

	hits, misses, timeouts, stale, waits, waited *prometheus.Desc
	connections, pending                         *prometheus.Desc
}

// NewPoolCollector returns a collector over the pool of client. Collecting sends nothing to Redis.
func NewPoolCollector(client goredis.UniversalClient) *PoolCollector {
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
	for _, d := range []*prometheus.Desc{c.hits, c.misses, c.timeouts, c.stale, c.waits, c.waited, c.connections,
		c.pending} {
		out <- d
	}
}

// Collect sends the pool's current numbers.
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
	// The two numbers are read one after the other, so idle may exceed total for a moment.
	send(c.connections, prometheus.GaugeValue, float64(s.IdleConns), "idle")
	send(c.connections, prometheus.GaugeValue, float64(s.TotalConns-min(s.IdleConns, s.TotalConns)), "used")
	send(c.pending, prometheus.GaugeValue, float64(s.PendingRequests))
}
