package audit_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/queue"
	"sluice/store"
)

// However many lines are not ready, and however long that takes to find out, the audit of a healthy sale is no guess.
func TestTheAuditComparesPastBrokenLines(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		missing := []string{"b-missing", "c-missing", "d-missing"}
		for _, id := range missing { // the first in the audit's order
			w.Create(orders.NewSale(id, 5, 1))
			w.Clock.Advance(time.Second)
		}
		w.OpenAroundBroken(10)
		for _, id := range missing {
			require.NoError(w.T, w.Redis.Del(w.Ctx, "sluice:{"+id+"/0}:meta").Err())
		}
		w.Auditor = audit.New(w.DB, w.Lines, time.Hour,
			func() time.Time { return w.Clock.Advance(3 * time.Second) })
		_, all := verdicts(w)
		require.Equal(w.T, audit.Clean, all[orders.Sale])
		require.Len(w.T, all, 7)
		for id, verdict := range all {
			require.Equal(w.T, id != orders.Sale, verdict == audit.Unknown, id)
		}
	})
}

// onCluster is a world whose Redis is a cluster, and a sale on each master.
func onCluster(t *testing.T) (w *orders.World, c *testkit.SmallCluster, lost []string) {
	t.Helper()
	t.Parallel()
	c = testkit.NewSmallCluster(t)
	w = orders.NewEmpty(t, tables.New(t, store.SQLite), c.Nodes[0].Addr())
	rdb := c.Client(2 * time.Second)
	w.Lines = queue.NewLines(rdb, queue.DefaultPrefix)
	log := slog.New(slog.DiscardHandler)
	w.Cache = inventory.NewSaleCache(w.Sales, w.Lines, log, w.Clock.Now)
	w.Reconciler = w.OtherReconciler(w.Clock)
	w.Auditor = audit.New(w.DB, w.Lines, time.Hour, w.Clock.Now)
	for _, begin := range []string{"a-lost", "b-lost", "z-lost"} {
		id := c.On(1, begin, func(sale string) string { return "{" + sale + "/0}" })
		w.Create(orders.NewSale(id, 10, 1))
		lost = append(lost, id)
	}
	return w, c, lost
}

// wellOn makes the healthy sale on the master that stays.
func wellOn(w *orders.World, c *testkit.SmallCluster) string {
	w.T.Helper()
	id := c.On(0, "well", func(sale string) string { return "{" + sale + "/0}" })
	w.Create(orders.NewSale(id, 10, 1))
	w.CatchUp()
	return id
}

// A master that hangs, or is gone, keeps the cache, the reconciler and the audit from nothing but its own lines.
func TestAMasterThatIsGoneKeepsNothingFromOtherSales(t *testing.T) {
	for name, lose := range map[string]func(c *testkit.SmallCluster){
		"killed": func(c *testkit.SmallCluster) { c.Nodes[1].Kill() },
		"hung":   func(c *testkit.SmallCluster) { c.Hang(1) },
	} {
		t.Run(name, func(t *testing.T) {
			w, c, lost := onCluster(t)
			well := wellOn(w, c)
			gauges := audit.NewGauges(w.Cache, w.Auditor, slog.New(slog.DiscardHandler), time.Now)
			ctx, stop := context.WithCancel(w.Ctx)
			loops := []func(context.Context){w.Cache.Run, w.Reconciler.Run, gauges.Run}
			ended := make(chan struct{}, len(loops))
			for _, loop := range loops {
				go func() {
					defer func() { ended <- struct{}{} }()
					loop(ctx)
				}()
			}
			t.Cleanup(func() {
				stop()
				for range loops {
					<-ended
				}
			})
			lose(c)
			for round := range int64(5) {
				_, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: well, Delta: 5, Actor: "test",
					Reason: "found"})
				require.NoError(t, err)
				w.Reconciler.Wake()
				require.Eventually(t, func() bool {
					e, ok := w.Cache.Get(well)
					return ok && e.View().Exists && e.Remaining() == 15+5*round
				}, orders.Soon, time.Millisecond, "round %d", round)
			}
			before, err := w.Lines.Of(well).View(w.Ctx)
			require.NoError(t, err)
			require.NoError(t, c.Clients[0].DecrBy(w.Ctx, "sluice:{"+well+"/0}:stock", 1).Err())
			require.Eventually(t, func() bool { return difference(t, gauges, well) == 1 }, orders.Soon,
				5*time.Millisecond)
			require.NotZero(t, before.Stock)

			result, err := w.Auditor.Run(w.Ctx, "")
			require.NoError(t, err)
			for _, s := range result.Sales {
				if s.Sale == well {
					require.Equal(t, audit.Different, s.Verdict)
				} else {
					require.Equal(t, audit.Unknown, s.Verdict)
				}
			}
			require.Len(t, lost, 3)
		})
	}
}
