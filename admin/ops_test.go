package admin_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"sluice/admin"
	"sluice/api"
	"sluice/internal/testkit/stack"
	"sluice/inventory/audit"
)

func (s *world) opsGet(path string) stack.Answer {
	s.T.Helper()
	return s.OpsAs("", http.MethodGet, path, "")
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
	s := newWorld(t, func(c *stack.Setup) {
		c.Still = true
		c.Checks = []admin.Check{{Name: "redis", Ask: ask(&redisDown), Note: func() string {
			return "everysec"
		}}, {Name: "database", Ask: ask(&databaseDown)}}
	})
	require.Equal(t, "ok\n", s.opsGet("/readyz").Raw)
	g := s.opsGet("/readyz?verbose")
	require.Equal(t, http.StatusOK, g.Status)
	require.Equal(t, "[+]redis (everysec) ok\n[+]database ok\n[+]serving ok\n", g.Raw)
	for _, one := range []struct {
		down *atomic.Bool
		line string
	}{
		{&redisDown, "[-]redis (everysec): connection refused\n[+]database ok\n[+]serving ok\n"},
		{&databaseDown, "[+]redis (everysec) ok\n[-]database: connection refused\n[+]serving ok\n"},
		{&s.Draining, "[+]redis (everysec) ok\n[+]database ok\n[-]serving: draining\n"},
	} {
		one.down.Store(true)
		for _, path := range []string{"/readyz", "/readyz?verbose"} {
			g := s.opsGet(path)
			require.Equal(t, http.StatusServiceUnavailable, g.Status)
			require.Equal(t, one.line, g.Raw)
		}
		require.Equal(t, "ok\n", s.opsGet("/livez").Raw, "restarting would not help")
		one.down.Store(false)
	}
}

// The true checks, against stores that go away; liveness asks neither.
func TestReadinessOfTheStores(t *testing.T) {
	t.Parallel()
	var s *world
	s = newWorld(t, func(c *stack.Setup) {
		c.Still = true
		c.Checks = []admin.Check{{Name: "database", Ask: func(ctx context.Context) error { return s.DB.Ping(ctx) }},
			{Name: "lines", Ask: func(ctx context.Context) error { return s.SaleCache.Ready(ctx) }}}
	})
	require.Equal(t, http.StatusOK, s.opsGet("/readyz").Status)
	require.NoError(t, s.DB.Close())
	g := s.opsGet("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, g.Status)
	require.Contains(t, g.Raw, "[-]database")
	require.Equal(t, http.StatusOK, s.opsGet("/livez").Status)
}

// A check that hangs costs readiness its timeout, not forever.
func TestReadinessIsBounded(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) {
		c.Still = true
		c.Checks = []admin.Check{{Name: "slow", Ask: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}},
			{Name: "slower", Ask: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}}
	})
	started := time.Now()
	require.Equal(t, http.StatusServiceUnavailable, s.opsGet("/readyz").Status)
	require.Less(t, time.Since(started), 2*time.Second+time.Second, "all are asked at once")
}

func TestMetricsKeepTheRulesAndTheContract(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	gauges := audit.NewGauges(s.SaleCache, s.Auditor, stack.QuietLog(), time.Now)
	s.Registry.MustRegister(gauges)
	s.Run(gauges.Run)
	s.Work()
	s.Sell("phone", 1)
	path := s.Place("ann", "phone")
	s.Until("ann", path, "confirmed")
	s.Refused(api.CodeSoldOut, s.Order("bob", "phone", ""))
	want := []string{"orders_admitted_total", "orders_rejected_total", "queue_depth", "queue_capacity",
		"queue_oldest_age_seconds",
		"queue_wait_seconds", "admission_seconds", "admission_batch_size", "fulfil_seconds", "fulfil_batch_size",
		"pool_workers", "stock_available",
		// ledger_difference comes with the first audit, after a while
		"leases_recovered_total", "dead_letters", "orders_finished_total"}
	var g stack.Answer
	require.Eventually(t, func() bool {
		g = s.opsGet("/metrics")
		for _, name := range want {
			if !strings.Contains(g.Raw, "# TYPE sluice_"+name+" ") {
				return false
			}
		}
		return strings.Contains(g.Raw, `sluice_stock_available{sale="phone",store="database"} 0`)
	}, stack.Patience, 50*time.Millisecond, "of %v there is %s", want, g.Raw)
	require.Contains(t, g.Raw, `sluice_orders_admitted_total{sale="phone"} 1`)
	require.Contains(t, g.Raw, `sluice_orders_rejected_total{code="sold_out",sale="phone"} 1`)
	require.Contains(t, g.Raw,
		`http_server_request_duration_seconds_count{code="202",method="POST",route="/v1/sales/:sale/orders"} 1`)
	id := path[strings.LastIndex(path, "/")+1:]
	for _, secret := range []string{id, "ann", "bob"} {
		require.NotContains(t, g.Raw, secret, "labels are bounded")
	}
	problems, err := promlint.New(strings.NewReader(g.Raw)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	require.Contains(t, s.opsGet("/debug/pprof/").Raw, "goroutine")
	for _, name := range []string{"cmdline", "symbol", "allocs", "block", "goroutine", "heap", "mutex", "threadcreate",
		"goroutine?debug=1", "trace?seconds=0.01"} {
		g := s.opsGet("/debug/pprof/" + name)
		require.Equal(t, http.StatusOK, g.Status, name)
	}
	require.Contains(t, s.opsGet("/debug/pprof/goroutine?debug=2").Raw, "TestProfiles")
	s.Refused(api.CodeNotFound, s.opsGet("/debug/pprof/nothing"))
	s.Refused(api.CodeNotFound, s.opsGet("/"))
	s.Refused(api.CodeMethodNotAllowed, s.OpsAs("", http.MethodPost, "/metrics", ""))
}

// A check that panics is a check that fails.
func TestReadinessSurvivesAPanic(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet, func(c *stack.Setup) {
		c.Checks = []admin.Check{{Name: "good", Ask: func(context.Context) error {
			return nil
		}}, {Name: "bad", Ask: func(context.Context) error { panic("a defect") }}}
	})
	w := httptest.NewRecorder()
	s.OpsEngine.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "[+]good ok")
	require.Contains(t, w.Body.String(), "[-]bad: the check broke")
}
