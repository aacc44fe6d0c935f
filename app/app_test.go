package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/internal/shoppers"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
	"sluice/inventory/audit"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

// startApp runs an App in this process and stops it at the end of the test.
func startApp(t *testing.T, cfg configs.Config, roles Roles) *App {
	t.Helper()
	log := slog.New(slog.NewTextHandler(shop.Log{T: t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	app, err := New(t.Context(), cfg, Options{Roles: roles, Log: log, Registry: prometheus.NewRegistry(), Now: time.Now,
		Version: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stopApp(app)) })
	require.NoError(t, app.Start(t.Context()))
	return app
}

func stopApp(app *App) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return app.Stop(ctx)
}

// openSale creates a sale and waits until every app knows it.
func openSale(t *testing.T, n inventory.NewSale, apps ...*App) {
	t.Helper()
	require.NoError(t, apps[0].OpenSale(t.Context(), shop.Sale(n), "test"))
	for _, app := range apps[1:] {
		require.NoError(t, app.reconciler.SyncLine(t.Context(), n.ID))
		require.NoError(t, app.saleCache.Refresh(t.Context()))
	}
}

func requireClean(t *testing.T, app *App) audit.Sale {
	t.Helper()
	result, err := app.auditor.Run(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, audit.Clean, result.Verdict, "%+v", result.Sales)
	require.Len(t, result.Sales, 1)
	return result.Sales[0]
}

// TestShoppersRaceForUnits lets 2,000 shoppers race for 500 units. Exactly 500 win, nobody twice, and all others get a
// reason.
func TestShoppersRaceForUnits(t *testing.T) {
	t.Parallel()
	for _, parts := range []struct{ name, driver, redis string }{
		{"auto and sqlite", "sqlite", ""},
		{"redis and mariadb", "mysql", "real"},
		{"redis and postgresql", "postgres", "real"},
	} {
		t.Run(parts.name, func(t *testing.T) {
			t.Parallel()
			addr := ""
			if parts.redis != "" {
				addr = testkit.Redis(t).Addr()
			}
			app := startApp(t, shop.Config(t, parts.driver, addr), AllRoles())
			openSale(t, inventory.NewSale{ID: "race", Stock: 500}, app)

			c := shoppers.New(app.Addr(), "race", 2000, app.cfg.Auth, time.Now)
			require.NoError(t, c.Run(t.Context(), io.Discard))

			require.Equal(t, map[string]int{"confirmed": 500, "sold_out": 1500}, c.Outcomes())
			require.Zero(t, c.Extra(), "somebody got two orders")
			audit := requireClean(t, app)
			require.EqualValues(t, 500, audit.Live)
			require.Zero(t, audit.Available+audit.LineStock+audit.InFlight)
			var users int64
			require.NoError(t, app.db.Read.Table("orders").Where("status = 'confirmed'").Distinct("user_id").
				Count(&users).Error)
			require.EqualValues(t, 500, users)
			require.Eventually(t, func() bool {
				delivered, err := app.redis.Client.XLen(t.Context(), "sluice:events").Result()
				return err == nil && delivered == 500
			}, 10*time.Second, 20*time.Millisecond, "every winner's news reaches the event log")
		})
	}
}

// TestCapIsExact sends 5,000 requests at once to a line with a cap of 1,000 and no workers. Exactly 1,000 become
// tickets, and 4,000 get a Retry-After.
func TestCapIsExact(t *testing.T) {
	t.Parallel()
	app := startApp(t, shop.Config(t, "sqlite", testkit.Redis(t).Addr()), Roles{Gateway: true})
	openSale(t, inventory.NewSale{ID: "full", Stock: 100_000, Cap: 1000}, app)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 500, MaxIdleConnsPerHost: 500}}
	defer client.CloseIdleConnections()

	var mu sync.Mutex
	codes := map[int]int{}
	waits := map[string]int{}
	var shoppers sync.WaitGroup
	slots := make(chan struct{}, 500)
	for n := range 5000 {
		slots <- struct{}{}
		shoppers.Go(func() {
			defer func() { <-slots }()
			resp, err := client.Do(shop.Order(t, app.Addr(), "full", n))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			codes[resp.StatusCode]++
			if resp.StatusCode == http.StatusServiceUnavailable {
				waits[resp.Header.Get("Retry-After")]++
				if !strings.Contains(string(body), `"code":"queue_full"`) {
					t.Errorf("refused with %s", body)
				}
			}
		})
	}
	shoppers.Wait()
	require.Equal(t, map[int]int{http.StatusAccepted: 1000, http.StatusServiceUnavailable: 4000}, codes)
	require.Greater(t, len(waits), 3, "Retry-After is jittered")
	require.NotContains(t, waits, "")
	view, err := app.lines.Of("full").View(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1000, view.Waiting)
	require.EqualValues(t, 1000, requireClean(t, app).InFlight)
}
