package app

import (
	"context"
	"io"
	"log/slog"
	"net"
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
)

// opened returns a process that has not started.
func opened(t *testing.T, cfg configs.Config) *App {
	t.Helper()
	app, err := New(t.Context(), cfg, Options{Roles: AllRoles(), Log: slog.New(slog.NewTextHandler(shop.Log{T: t},
		&slog.HandlerOptions{Level: slog.LevelWarn})),
		Registry: prometheus.NewRegistry(), Now: time.Now, Version: "test"})
	require.NoError(t, err)
	return app
}

// requireGone checks that a process has ended: its listeners do not answer, and its database is closed. TestMain checks
// that no goroutine is left.
func requireGone(t *testing.T, app *App) {
	t.Helper()
	for _, addr := range []string{app.Addr(), app.OpsAddr()} {
		_, err := net.DialTimeout("tcp", addr, time.Second)
		require.Error(t, err, addr)
	}
	require.Error(t, app.db.Ping(t.Context()))
}

func TestStopBeforeStart(t *testing.T) {
	t.Parallel()
	app := opened(t, shop.Config(t, "sqlite", testkit.Redis(t).Addr()))
	require.NoError(t, stopApp(app))
	require.NoError(t, stopApp(app), "twice")
	requireGone(t, app)
	require.ErrorIs(t, app.Start(t.Context()), ErrStopped)
	requireGone(t, app)
}

func TestStopTwiceAndStartAgain(t *testing.T) {
	t.Parallel()
	app := opened(t, shop.Config(t, "sqlite", testkit.Redis(t).Addr()))
	require.NoError(t, app.Start(t.Context()))
	require.ErrorIs(t, app.Start(t.Context()), ErrStarted)
	require.Equal(t, http.StatusOK, shop.Ask(t, app.OpsAddr(), http.MethodGet, "/livez", false), "it goes on")
	errs := make(chan error, 3)
	for range cap(errs) {
		go func() { errs <- stopApp(app) }()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	requireGone(t, app)
	require.ErrorIs(t, app.Start(t.Context()), ErrStopped)
	requireGone(t, app)
}

// TestStopDuringStart checks that Start gives up and leaves nothing, whenever a Stop comes.
func TestStopDuringStart(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond,
		100 * time.Millisecond} {
		app := opened(t, shop.Config(t, "sqlite", redis.Addr()))
		var starting sync.WaitGroup
		starting.Go(func() {
			_ = app.Start(t.Context()) // stopped before, or during a call to a store
		})
		<-time.After(after)
		require.NoError(t, stopApp(app))
		starting.Wait()
		requireGone(t, app)
		require.NoError(t, redis.Client().FlushAll(t.Context()).Err()) // the next has a database of its own
	}
}

// TestStartIsGivenUp checks that the end of Start's context has the effect of Stop.
func TestStartIsGivenUp(t *testing.T) {
	t.Parallel()
	app := opened(t, shop.Config(t, "sqlite", testkit.Redis(t).Addr()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, app.Start(ctx))
	requireGone(t, app)
	require.ErrorIs(t, app.Start(t.Context()), ErrStopped)
}

// TestTwoAppsInOneProcess checks that two Apps share nothing but their stores.
func TestTwoAppsInOneProcess(t *testing.T) {
	t.Parallel()
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	one, two := startApp(t, cfg, AllRoles()), startApp(t, cfg, AllRoles())
	openSale(t, inventory.NewSale{ID: "phone", Stock: 30}, one, two)
	for _, app := range []*App{one, two} {
		c := shoppers.New(app.Addr(), "phone", 20, cfg.Auth, time.Now)
		require.NoError(t, c.Run(t.Context(), io.Discard))
	}
	require.NoError(t, stopApp(one))
	requireGone(t, one)
	require.Equal(t, http.StatusOK, shop.Ask(t, two.OpsAddr(), http.MethodGet, "/livez", false))
	require.EqualValues(t, 20, requireClean(t, two).Live, "the same twenty shoppers came to both")
}

// TestAPartThatCannotBeOpenedUndoesTheOthers checks that New closes everything after a failed step. The last step is a
// listener whose address is in use.
func TestAPartThatCannotBeOpenedUndoesTheOthers(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	redis := testkit.Redis(t)
	cfg := shop.Config(t, "postgres", redis.Addr())
	others := func() (lines []string) { // connections of others than this test
		for line := range strings.Lines(redis.Client().ClientList(t.Context()).Val()) {
			if !strings.Contains(line, "cmd=client|list") && !strings.Contains(line, "cmd=ping") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	for _, spoil := range []func(*configs.Config){
		func(c *configs.Config) { c.HTTP.Addr = taken.Addr().String() },
		func(c *configs.Config) { c.Ops.Addr = taken.Addr().String() },
		func(c *configs.Config) { c.Work.Addr = taken.Addr().String() },
	} {
		broken := cfg
		spoil(&broken)
		_, err := New(t.Context(), broken, Options{Roles: AllRoles(), Log: slog.New(slog.DiscardHandler),
			Registry: prometheus.NewRegistry(),
			Now:      time.Now, Version: "test"})
		require.ErrorContains(t, err, "address already in use")
		require.Eventually(t, func() bool { return len(others()) == 0 }, time.Minute, 20*time.Millisecond,
			"connections to Redis")
	}
	app := startApp(t, cfg, AllRoles())
	require.Equal(t, http.StatusOK, shop.Ask(t, app.OpsAddr(), http.MethodGet, "/livez", false),
		"nothing of it is in the way")
}
