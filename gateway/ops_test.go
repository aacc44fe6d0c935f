package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"sluice/admin"
	"sluice/api"
	"sluice/inventory"
)

func (s *stack) opsGet(path string) got {
	s.t.Helper()
	return s.opsAs("", http.MethodGet, path, "")
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	var redisDown, databaseDown atomic.Bool
	ask := func(down *atomic.Bool) func(context.Context) error {
		return func(context.Context) error {
			if down.Load() {
				return errors.New("connection refused")
			}
			return nil
		}
	}
	s := newStack(t, func(c *setup) {
		c.still = true
		c.checks = []admin.Check{{Name: "redis", Ask: ask(&redisDown), Note: func() string {
			return "everysec"
		}}, {Name: "database", Ask: ask(&databaseDown)}}
	})
	require.Equal(t, "ok\n", s.opsGet("/readyz").raw)
	g := s.opsGet("/readyz?verbose")
	require.Equal(t, http.StatusOK, g.status)
	require.Equal(t, "[+]redis (everysec) ok\n[+]database ok\n[+]serving ok\n", g.raw)
	for _, one := range []struct {
		down *atomic.Bool
		line string
	}{
		{&redisDown, "[-]redis (everysec): connection refused\n[+]database ok\n[+]serving ok\n"},
		{&databaseDown, "[+]redis (everysec) ok\n[-]database: connection refused\n[+]serving ok\n"},
		{&s.down, "[+]redis (everysec) ok\n[+]database ok\n[-]serving: draining\n"},
	} {
		one.down.Store(true)
		for _, path := range []string{"/readyz", "/readyz?verbose"} {
			g := s.opsGet(path)
			require.Equal(t, http.StatusServiceUnavailable, g.status)
			require.Equal(t, one.line, g.raw)
		}
		require.Equal(t, "ok\n", s.opsGet("/livez").raw, "restarting would not help")
		one.down.Store(false)
	}
}

// The true checks, against stores that go away; liveness asks neither.
func TestReadinessOfTheStores(t *testing.T) {
	t.Parallel()
	var s *stack
	s = newStack(t, func(c *setup) {
		c.still = true
		c.checks = []admin.Check{{Name: "database", Ask: func(ctx context.Context) error { return s.db.Ping(ctx) }},
			{Name: "lines", Ask: func(ctx context.Context) error { return s.saleCache.Ready(ctx) }}}
	})
	require.Equal(t, http.StatusOK, s.opsGet("/readyz").status)
	require.NoError(t, s.db.Close())
	g := s.opsGet("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, g.status)
	require.Contains(t, g.raw, "[-]database")
	require.Equal(t, http.StatusOK, s.opsGet("/livez").status)
}

// A check that hangs costs readiness its timeout, not forever.
func TestReadinessIsBounded(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) {
		c.still = true
		c.checks = []admin.Check{{Name: "slow", Ask: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}},
			{Name: "slower", Ask: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}}
	})
	started := time.Now()
	require.Equal(t, http.StatusServiceUnavailable, s.opsGet("/readyz").status)
	require.Less(t, time.Since(started), 2*time.Second+time.Second, "all are asked at once")
}

func TestMetricsKeepTheRulesAndTheContract(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	gauges := inventory.NewGauges(s.saleCache, s.auditor, quietLog(), time.Now)
	s.reg.MustRegister(gauges)
	s.run(gauges.Run)
	s.work()
	s.sell("phone", 1)
	path := s.place("ann", "phone")
	s.until("ann", path, "confirmed")
	s.refused(api.CodeSoldOut, s.order("bob", "phone", ""))
	want := []string{"orders_admitted_total", "orders_rejected_total", "queue_depth", "queue_capacity",
		"queue_oldest_age_seconds",
		"queue_wait_seconds", "admission_seconds", "admission_batch_size", "fulfil_seconds", "fulfil_batch_size",
		"pool_workers", "stock_available",
		// ledger_difference comes with the first audit, after a while
		"leases_recovered_total", "dead_letters", "orders_finished_total"}
	var g got
	require.Eventually(t, func() bool {
		g = s.opsGet("/metrics")
		for _, name := range want {
			if !strings.Contains(g.raw, "# TYPE sluice_"+name+" ") {
				return false
			}
		}
		return strings.Contains(g.raw, `sluice_stock_available{sale="phone",store="database"} 0`)
	}, patience, 50*time.Millisecond, "of %v there is %s", want, g.raw)
	require.Contains(t, g.raw, `sluice_orders_admitted_total{sale="phone"} 1`)
	require.Contains(t, g.raw, `sluice_orders_rejected_total{code="sold_out",sale="phone"} 1`)
	require.Contains(t, g.raw,
		`http_server_request_duration_seconds_count{code="202",method="POST",route="/v1/sales/:sale/orders"} 1`)
	id := path[strings.LastIndex(path, "/")+1:]
	for _, secret := range []string{id, "ann", "bob"} {
		require.NotContains(t, g.raw, secret, "labels are bounded")
	}
	problems, err := promlint.New(strings.NewReader(g.raw)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	require.Contains(t, s.opsGet("/debug/pprof/").raw, "goroutine")
	for _, name := range []string{"cmdline", "symbol", "allocs", "block", "goroutine", "heap", "mutex", "threadcreate",
		"goroutine?debug=1", "trace?seconds=0.01"} {
		g := s.opsGet("/debug/pprof/" + name)
		require.Equal(t, http.StatusOK, g.status, name)
	}
	require.Contains(t, s.opsGet("/debug/pprof/goroutine?debug=2").raw, "TestProfiles")
	s.refused(api.CodeNotFound, s.opsGet("/debug/pprof/nothing"))
	s.refused(api.CodeNotFound, s.opsGet("/"))
	s.refused(api.CodeMethodNotAllowed, s.opsAs("", http.MethodPost, "/metrics", ""))
}
