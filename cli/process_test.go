package cli

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/app"
	"sluice/configs"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

// startApp runs an App in this process and stops it at the end of the test.
func startApp(t *testing.T, cfg configs.Config, roles app.Roles) *app.App {
	t.Helper()
	log := slog.New(slog.NewTextHandler(shop.Log{T: t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := app.New(t.Context(), cfg, app.Options{Roles: roles, Log: log, Registry: prometheus.NewRegistry(),
		Now: time.Now, Version: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stopApp(a)) })
	require.NoError(t, a.Start(t.Context()))
	return a
}

func stopApp(a *app.App) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return a.Stop(ctx)
}

// openSale creates a sale and waits until every app sells it.
func openSale(t *testing.T, n inventory.NewSale, apps ...*app.App) {
	t.Helper()
	require.NoError(t, apps[0].OpenSale(t.Context(), shop.Sale(n), "test"))
	for _, other := range apps[1:] {
		require.Eventually(t, func() bool {
			return shop.Ask(t, other.Addr(), http.MethodGet, "/v1/sales/"+n.ID, false) == http.StatusOK
		}, 30*time.Second, 10*time.Millisecond)
	}
}
