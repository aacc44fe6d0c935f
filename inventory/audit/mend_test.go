package audit_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/inventory/audit"
	"sluice/inventory/reconcile"
)

// A difference that stands is mended, a bounded number of times.
func TestAStandingDifferenceIsMended(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(20, 1)
	w.AdmitMany(4)
	gauges := audit.NewGauges(w.Cache, w.Auditor, slog.New(slog.DiscardHandler), w.Clock.Now)
	gauges.MendBy(func(ctx context.Context, s audit.Sale) { _ = w.Reconciler.Mend(ctx, s) })
	for round := range 4 {
		require.NoError(t, w.Redis.IncrBy(w.Ctx, orders.Key("stock"), 5).Err())
		require.NoError(t, gauges.Measure(w.Ctx))
		require.EqualValues(t, -5, w.Audit().Difference, "once is no proof")
		require.NoError(t, gauges.Measure(w.Ctx))
		if round < 3 {
			w.Clean()
			continue
		}
		require.EqualValues(t, -5, w.Audit().Difference, "the fourth within ten minutes needs a person")
		require.ErrorIs(t, w.Reconciler.Mend(w.Ctx, w.Audit()), reconcile.ErrMended)
		w.Clock.Advance(11 * time.Minute)
		require.NoError(t, w.Reconciler.Mend(w.Ctx, w.Audit()))
		w.Clean()
	}
}

// A sale that cannot be looked at keeps no other from being mended.
func TestADifferenceIsMendedBesideASaleThatCannotBeAsked(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Create(orders.NewSale("a-broken", 5, 1))
	w.Open(20, 1)
	require.NoError(t, w.Redis.Set(w.Ctx, "sluice:{a-broken/0}:wait", "not a list", 0).Err())
	gauges := audit.NewGauges(w.Cache, w.Auditor, slog.New(slog.DiscardHandler), w.Clock.Now)
	gauges.MendBy(func(ctx context.Context, s audit.Sale) { _ = w.Reconciler.Mend(ctx, s) })
	require.NoError(t, w.Redis.IncrBy(w.Ctx, orders.Key("stock"), 5).Err())
	for range 2 {
		require.ErrorContains(t, gauges.Measure(w.Ctx), "a-broken")
	}
	w.Clean()
}
