package app

import (
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
	"sluice/queue"
	"sluice/settings"
)

// prepareApp returns a process that has not started yet.
func prepareApp(t *testing.T, cfg configs.Config, now func() time.Time) *App {
	t.Helper()
	app, err := New(t.Context(), cfg, Options{Roles: AllRoles(), Log: slog.New(slog.NewTextHandler(shop.Log{T: t},
		nil)),
		Registry: prometheus.NewRegistry(), Now: now, Version: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stopApp(app)) })
	return app
}

// operate changes hot keys as an operator does, for a time or, with 0, without an end.
func operate(t *testing.T, app *App, lasts time.Duration, set map[string]any) {
	t.Helper()
	by := settings.Author{Actor: "ann", IfVersion: settings.AnyVersion}
	require.NoError(t, app.live.Change(t.Context(), settings.Change{Set: set, For: lasts, By: by}))
}

// answered returns status and body of a process' answer to an order.
func answered(t *testing.T, app *App, shopper int) (int, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(shop.Order(t, app.Addr(), "phone", shopper))
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

// TestAStopHoldsBeforeTheDatabaseHasTold checks that a process neither admits nor drains before it has read the
// overrides. After that it goes on admitting without the database.
func TestAStopHoldsBeforeTheDatabaseHasTold(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"sqlite", "mysql", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			cfg := shop.Config(t, driver, testkit.Redis(t).Addr())
			before := startApp(t, cfg, AllRoles())
			openSale(t, inventory.NewSale{ID: "phone", Stock: 10}, before)
			operate(t, before, 0, map[string]any{"gateway.admission": false, "queue.drain": false})
			require.NoError(t, stopApp(before))

			app := prepareApp(t, cfg, time.Now)
			rename := func(from, to string) {
				require.NoError(t, app.db.Write.Exec("ALTER TABLE "+from+" RENAME TO "+to).Error)
			}
			rename("config_versions", "elsewhere")
			require.NoError(t, app.Start(t.Context()))
			waiting := func() int64 {
				view, err := app.lines.Of("phone").View(t.Context())
				require.NoError(t, err)
				return view.Waiting
			}
			entry, ok := app.saleCache.Get("phone")
			require.True(t, ok)
			admitted, err := app.lines.Of("phone").Admit(t.Context(), entry.Sale.Epoch, 1,
				[]queue.Request{{ID: "by-another", User: "bob", Units: 1}})
			require.NoError(t, err)
			require.NoError(t, admitted[0].Err)
			status, text := answered(t, app, 1)
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.Contains(t, text, `"code":"unavailable"`)
			require.Never(t, func() bool { return waiting() != 1 }, time.Second, 20*time.Millisecond)
			require.ErrorIs(t, app.live.Ready(), settings.ErrUnknown)

			rename("elsewhere", "config_versions")
			require.Eventually(t, func() bool { return app.live.Ready() == nil }, 10*time.Second, 10*time.Millisecond)
			status, text = answered(t, app, 1)
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.Contains(t, text, `"code":"sale_paused"`)
			require.Never(t, func() bool { return waiting() != 1 }, time.Second, 20*time.Millisecond)
			operate(t, app, 0, map[string]any{"gateway.admission": true, "queue.drain": true})
			require.Eventually(t, func() bool { return waiting() == 0 }, 10*time.Second, 20*time.Millisecond)

			rename("config_versions", "elsewhere")
			status, text = answered(t, app, 1)
			require.Equal(t, http.StatusAccepted, status, text)
			rename("elsewhere", "config_versions")
		})
	}
}

// TestAStopEndsByTheClockOfRedisAlone checks that a host with a fast clock ends no stop early. At its start Redis'
// clock cannot be read.
func TestAStopEndsByTheClockOfRedisAlone(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	cfg := shop.Config(t, "sqlite", redis.Addr())
	before := startApp(t, cfg, AllRoles())
	openSale(t, inventory.NewSale{ID: "phone", Stock: 10}, before)
	operate(t, before, 10*time.Minute, map[string]any{"gateway.admission": false})
	require.NoError(t, stopApp(before))

	app := prepareApp(t, cfg, func() time.Time { return time.Now().Add(20 * time.Minute) })
	allow := func(rule string) {
		require.NoError(t, redis.Client().Do(t.Context(), "ACL", "SETUSER", "default", rule).Err())
	}
	allow("-time")
	require.NoError(t, app.Start(t.Context()))
	status, text := answered(t, app, 1)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, `"code":"unavailable"`)
	require.Zero(t, app.live.Show(t.Context()).Version.Version, "a look at the configuration adopts nothing")
	require.Error(t, app.live.Ready())
	by := settings.Author{Actor: "ann", IfVersion: settings.AnyVersion}
	early := settings.Change{Set: map[string]any{"queue.drain": false}, By: by}
	require.ErrorIs(t, app.live.Change(t.Context(), early), settings.ErrUnknown, "nor is anything decided on it")
	allow("+time")
	require.Eventually(t, func() bool { return app.live.Ready() == nil }, 10*time.Second, 10*time.Millisecond)
	_, text = answered(t, app, 1)
	require.Contains(t, text, `"code":"sale_paused"`)
	version, _ := app.live.Version()
	require.EqualValues(t, 1, version, "it has not ended for the others either")
}

// TestARestartLiftsNoCap checks that a starting process with another cap in its file does not lift the operators' cap
// for a moment.
func TestARestartLiftsNoCap(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	cfg := shop.Config(t, "sqlite", redis.Addr())
	before := startApp(t, cfg, AllRoles())
	openSale(t, inventory.NewSale{ID: "phone", Stock: 10}, before)
	operate(t, before, 0, map[string]any{"queue.cap": 50})
	require.Eventually(t, func() bool {
		view, err := before.lines.Of("phone").View(t.Context())
		return err == nil && view.Cap == 50
	}, 10*time.Second, 20*time.Millisecond)
	require.NoError(t, stopApp(before))
	revision := func() string { return redis.Client().HGet(t.Context(), "sluice:{phone/0}:meta", "rev").Val() }
	was := revision()
	require.NotEmpty(t, was)
	startApp(t, cfg, AllRoles())
	require.Equal(t, was, revision(), "nothing of the line was changed")
}
