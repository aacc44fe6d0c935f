package audit_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/inventory/audit"
)

func TestGauges(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	gauges := audit.NewGauges(w.Cache, w.Auditor, slog.New(slog.DiscardHandler), time.Now)
	require.Zero(t, testutil.CollectAndCount(gauges))
	w.Open(10, 1)
	w.AdmitMany(4)
	w.WorkOff(1)
	w.Create(orders.NewSale("lineless", 3, 1))
	require.NoError(t, w.Cache.Refresh(w.Ctx))
	seeWaiting(w, 3)
	require.NoError(t, w.Reconciler.Reconcile(w.Ctx))
	require.NoError(t, gauges.Measure(w.Ctx))
	expected := `
# HELP sluice_ledger_difference Units by which ledger and line differ; anything but 0 is a defect.
# TYPE sluice_ledger_difference gauge
sluice_ledger_difference{sale="lineless"} 0
sluice_ledger_difference{sale="sale"} 0
# HELP sluice_queue_capacity Most tickets that may wait in the line.
# TYPE sluice_queue_capacity gauge
sluice_queue_capacity{sale="sale"} 10000
# HELP sluice_queue_depth Tickets waiting in the line.
# TYPE sluice_queue_depth gauge
sluice_queue_depth{sale="sale"} 3
# HELP sluice_stock_available Units that can still be ordered, by store.
# TYPE sluice_stock_available gauge
sluice_stock_available{sale="lineless",store="database"} 3
sluice_stock_available{sale="sale",store="database"} 9
sluice_stock_available{sale="sale",store="redis"} 6
# HELP sluice_dead_letters Tickets given up on, kept for an operator.
# TYPE sluice_dead_letters gauge
sluice_dead_letters{sale="sale"} 0
`
	require.NoError(t, testutil.CollectAndCompare(gauges, strings.NewReader(expected),
		"sluice_ledger_difference", "sluice_queue_capacity", "sluice_queue_depth", "sluice_stock_available",
		"sluice_dead_letters"))
	problems, err := testutil.CollectAndLint(gauges)
	require.NoError(t, err)
	require.Empty(t, problems)

	require.NoError(t, w.Redis.DecrBy(w.Ctx, orders.Key("stock"), 2).Err())
	require.NoError(t, gauges.Measure(w.Ctx))
	require.NoError(t, testutil.CollectAndCompare(gauges, strings.NewReader(`
# HELP sluice_ledger_difference Units by which ledger and line differ; anything but 0 is a defect.
# TYPE sluice_ledger_difference gauge
sluice_ledger_difference{sale="lineless"} 0
sluice_ledger_difference{sale="sale"} 2
`), "sluice_ledger_difference"))

	require.NoError(t, w.DB.Close())
	require.Error(t, gauges.Measure(w.Ctx), "an audit that cannot be made")
	require.NoError(t, testutil.CollectAndCompare(gauges, strings.NewReader(`
# HELP sluice_ledger_difference Units by which ledger and line differ; anything but 0 is a defect.
# TYPE sluice_ledger_difference gauge
sluice_ledger_difference{sale="lineless"} 0
sluice_ledger_difference{sale="sale"} 2
`), "sluice_ledger_difference"), "keeps the last value")

	ctx, stop := context.WithCancel(w.Ctx)
	stop()
	gauges.Run(ctx) // returns
}

func TestGaugesMeasurePastABrokenLine(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.OpenAroundBroken(10)
		require.NoError(w.T, w.Cache.Refresh(w.Ctx))
		require.NoError(w.T, w.Redis.DecrBy(w.Ctx, orders.Key("stock"), 2).Err())
		var mended []string
		// Each look that fails takes three seconds: after two of them the rest waits for the next turn, and has it
		// then.
		gauges := audit.NewGauges(w.Cache, w.Auditor, slog.New(slog.DiscardHandler),
			func() time.Time { return w.Clock.Advance(3 * time.Second) })
		gauges.MendBy(func(_ context.Context, s audit.Sale) { mended = append(mended, s.Sale) })
		for range 6 {
			require.ErrorContains(w.T, gauges.Measure(w.Ctx), "broken")
		}
		require.NoError(w.T, testutil.CollectAndCompare(gauges, strings.NewReader(`
# HELP sluice_ledger_difference Units by which ledger and line differ; anything but 0 is a defect.
# TYPE sluice_ledger_difference gauge
sluice_ledger_difference{sale="sale"} 2
`), "sluice_ledger_difference"))
		require.Contains(w.T, mended, orders.Sale)
	})
}

// seeWaiting runs the sale cache until it has seen so many tickets wait in the sale's line.
func seeWaiting(w *orders.World, tickets int64) {
	w.T.Helper()
	e, ok := w.Cache.Get(orders.Sale)
	require.True(w.T, ok)
	ctx, stop := context.WithCancel(w.Ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Cache.Run(ctx)
	}()
	require.Eventually(w.T, func() bool { return e.View().Waiting == tickets }, time.Minute, time.Millisecond)
	stop()
	<-ended
}

// difference is what the gauges show of a sale; -1: nothing.
func difference(t *testing.T, gauges *audit.Gauges, sale string) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	require.NoError(t, reg.Register(gauges))
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "sluice_ledger_difference" && m.GetLabel()[0].GetValue() == sale {
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}
