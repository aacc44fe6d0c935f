package inventory_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
)

// Each test here puts something broken beside a healthy sale and looks at the healthy one.

// brokenAround makes sales whose lines cannot be read, before and behind the healthy one in every order.
func (w *world) brokenAround(stock int64) {
	w.t.Helper()
	for _, id := range []string{"a-broken", "sale-broken", theSale, "z-broken"} {
		w.create(newSale(id, stock, 1))
		w.clock.Advance(time.Second)
	}
	w.keep()
	for _, id := range []string{"a-broken", "sale-broken", "z-broken"} {
		require.NoError(w.t, w.rdb.Del(w.ctx, "sluice:{"+id+"/0}:wait").Err())
		require.NoError(w.t, w.rdb.Set(w.ctx, "sluice:{"+id+"/0}:wait", "no list", 0).Err())
	}
}

func TestTheBookLooksPastABrokenLine(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.brokenAround(10)
		w.admitMany(3)
		w.cache.Look(w.ctx)
		require.EqualValues(w.t, 7, w.entry().Remaining())
		require.EqualValues(w.t, 3, w.entry().View().Waiting)
		require.NoError(w.t, w.entry().Fault())
		bad, ok := w.cache.Get("a-broken")
		require.True(w.t, ok)
		require.ErrorContains(w.t, bad.Fault(), "WRONGTYPE")
		require.EqualValues(w.t, 10, bad.Remaining(), "from the ledger")
		require.NoError(w.t, w.cache.Ready(w.ctx), "readiness is of all, not of one")
		gauges := inventory.NewGauges(w.cache, w.auditor, slog.New(slog.DiscardHandler), w.clock.Now)
		require.NoError(w.t, testutil.CollectAndCompare(gauges, strings.NewReader(`
# HELP sluice_queue_depth Tickets waiting in the line.
# TYPE sluice_queue_depth gauge
sluice_queue_depth{sale="sale"} 3
`), "sluice_queue_depth"))
	})
}

func TestTheKeeperKeepsPastABrokenLine(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.brokenAround(10)
		_, err := w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 5, Actor: "test",
			Reason: "found"})
		require.NoError(w.t, err)
		err = w.reconciler.Reconcile(w.ctx)
		for _, id := range []string{"a-broken", "sale-broken", "z-broken"} {
			require.ErrorContains(w.t, err, "{"+id+"/0}", "each is reported")
		}
		require.EqualValues(w.t, 15, w.view().Stock, "and the healthy one kept in the same round")
	})
}

// Units that cannot come back keep neither a pause from their own line nor its stock from another.
func TestWhatCannotBeReleasedKeepsNoPauseFromItsLine(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(10, 1)
		w.admit("ann", 1)
		w.work(1)
		w.exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0")
		require.NoError(w.t, w.rdb.Del(w.ctx, "sluice:{"+theSale+"/0}:holders").Err())
		require.NoError(w.t, w.rdb.Set(w.ctx, "sluice:{"+theSale+"/0}:holders", "no hash", 0).Err())
		_, _, err := w.saleStore.SetState(w.ctx, theSale, inventory.Paused, "test", "")
		require.NoError(w.t, err)
		require.ErrorContains(w.t, w.reconciler.Reconcile(w.ctx), "WRONGTYPE")
		require.Equal(w.t, inventory.Paused, w.view().State)
		require.EqualValues(w.t, 9, w.view().Stock, "as often as it is tried")
	})
}

// A line whose rebuild takes its time, or panics, keeps no other from being kept.
func TestASlowRebuildHoldsUpNoOther(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.create(newSale("a-slow", 10, 1))
		w.create(newSale("b-panics", 10, 1))
		w.open(10, 1)
		begun, release := make(chan struct{}, 100), make(chan struct{})
		w.reconciler.RestoreBy(func(ctx context.Context, r inventory.Restoration) (inventory.Restored, error) {
			switch r.Sale.ID {
			case "a-slow":
				begun <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
				}
			case "b-panics":
				panic("poison")
			}
			return inventory.Restored{}, ctx.Err()
		})
		for _, id := range []string{"a-slow", "b-panics"} {
			// A confirmed order that the database has never had: its rebuild must ask for it.
			require.NoError(w.t, w.rdb.HSet(w.ctx, "sluice:{"+id+"/0}:meta", "ledger", 99).Err())
			record := queue.Ticket{ID: "told", User: "ann", Seq: 1, Units: 1, Slot: 1, State: queue.Confirmed,
				AdmittedAt: time.Now(), At: time.Now()}
			w.tell(id, record)
		}
		ctx, stop := context.WithCancel(w.ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.reconciler.Run(ctx)
		}()
		<-begun
		for range 3 {
			_, stock := w.get()
			_, err := w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 5, Actor: "test",
				Reason: "found"})
			require.NoError(w.t, err)
			w.reconciler.Wake()
			require.Eventually(w.t, func() bool { return w.view().Stock == stock.Total+5 }, soon, time.Millisecond)
		}
		close(release)
		stop()
		<-ended
	})
}

// tell makes a line say that it has told an order confirmed.
func (w *world) tell(sale string, t queue.Ticket) {
	w.t.Helper()
	record := strings.Join([]string{"c", "1", "1", "1", t.User, "1700000000000", "print", "1", "0", "1700000000000",
		"", "", "", "", ""}, "\t")
	require.NoError(w.t, w.rdb.HSet(w.ctx, "sluice:{"+sale+"/0}:orders", t.ID, record).Err())
	require.NoError(w.t, w.rdb.HSet(w.ctx, "sluice:{"+sale+"/0}:holders", t.User, t.ID+":1:1").Err())
}

func TestGaugesMeasurePastABrokenLine(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.brokenAround(10)
		require.NoError(w.t, w.cache.Refresh(w.ctx))
		w.cache.Look(w.ctx)
		require.NoError(w.t, w.rdb.DecrBy(w.ctx, key("stock"), 2).Err())
		var mended []string
		// Each look that fails takes three seconds: after two of them the rest waits for the next turn, and has it
		// then.
		gauges := inventory.NewGauges(w.cache, w.auditor, slog.New(slog.DiscardHandler),
			func() time.Time { return w.clock.Advance(3 * time.Second) })
		gauges.MendBy(func(_ context.Context, s inventory.SaleAudit) { mended = append(mended, s.Sale) })
		for range 6 {
			require.ErrorContains(w.t, gauges.Measure(w.ctx), "broken")
		}
		require.NoError(w.t, testutil.CollectAndCompare(gauges, strings.NewReader(`
# HELP sluice_ledger_difference Units by which ledger and line differ; anything but 0 is a defect.
# TYPE sluice_ledger_difference gauge
sluice_ledger_difference{sale="sale"} 2
`), "sluice_ledger_difference"))
		require.Contains(w.t, mended, theSale)
	})
}

// However many lines are not ready, and however long that takes to find out, the audit of a healthy sale is no guess.
func TestTheAuditComparesPastBrokenLines(t *testing.T) {
	eachDatabase(t, func(w *world) {
		missing := []string{"b-missing", "c-missing", "d-missing"}
		for _, id := range missing { // the first in the audit's order
			w.create(newSale(id, 5, 1))
			w.clock.Advance(time.Second)
		}
		w.brokenAround(10)
		for _, id := range missing {
			require.NoError(w.t, w.rdb.Del(w.ctx, "sluice:{"+id+"/0}:meta").Err())
		}
		w.auditor = inventory.NewAuditor(w.db, w.lines, time.Hour,
			func() time.Time { return w.clock.Advance(3 * time.Second) })
		_, all := w.verdicts()
		require.Equal(w.t, inventory.VerdictClean, all[theSale])
		require.Len(w.t, all, 7)
		for id, verdict := range all {
			require.Equal(w.t, id != theSale, verdict == inventory.VerdictUnknown, id)
		}
	})
}

// onCluster is a world whose Redis is a cluster, and a sale on each master.
func onCluster(t *testing.T) (w *world, c *testkit.SmallCluster, lost []string) {
	t.Helper()
	t.Parallel()
	c = testkit.NewSmallCluster(t)
	w = newWorld(t, tables.New(t, store.SQLite), c.Nodes[0].Addr())
	rdb := c.Client(2 * time.Second)
	w.lines = queue.NewLines(rdb, queue.DefaultPrefix)
	log := slog.New(slog.DiscardHandler)
	w.cache = inventory.NewSaleCache(w.saleStore, w.lines, log, w.clock.Now)
	w.reconciler = w.newReconciler(w.clock)
	w.auditor = inventory.NewAuditor(w.db, w.lines, time.Hour, w.clock.Now)
	for _, begin := range []string{"a-lost", "b-lost", "z-lost"} {
		id := c.On(1, begin, func(sale string) string { return "{" + sale + "/0}" })
		w.create(newSale(id, 10, 1))
		lost = append(lost, id)
	}
	return w, c, lost
}

// wellOn makes the healthy sale on the master that stays.
func (w *world) wellOn(c *testkit.SmallCluster) string {
	w.t.Helper()
	id := c.On(0, "well", func(sale string) string { return "{" + sale + "/0}" })
	w.create(newSale(id, 10, 1))
	w.keep()
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
			well := w.wellOn(c)
			gauges := inventory.NewGauges(w.cache, w.auditor, slog.New(slog.DiscardHandler), time.Now)
			ctx, stop := context.WithCancel(w.ctx)
			loops := []func(context.Context){w.cache.Run, w.reconciler.Run, gauges.Run}
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
				_, err := w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: well, Delta: 5, Actor: "test",
					Reason: "found"})
				require.NoError(t, err)
				w.reconciler.Wake()
				require.Eventually(t, func() bool {
					e, ok := w.cache.Get(well)
					return ok && e.View().Exists && e.Remaining() == 15+5*round
				}, soon, time.Millisecond, "round %d", round)
			}
			before, err := w.lines.Of(well).View(w.ctx)
			require.NoError(t, err)
			require.NoError(t, c.Clients[0].DecrBy(w.ctx, "sluice:{"+well+"/0}:stock", 1).Err())
			require.Eventually(t, func() bool { return difference(t, gauges, well) == 1 }, soon, 5*time.Millisecond)
			require.NotZero(t, before.Stock)

			result, err := w.auditor.Run(w.ctx, "")
			require.NoError(t, err)
			for _, s := range result.Sales {
				if s.Sale == well {
					require.Equal(t, inventory.VerdictDifferent, s.Verdict)
				} else {
					require.Equal(t, inventory.VerdictUnknown, s.Verdict)
				}
			}
			require.Len(t, lost, 3)
		})
	}
}

// difference is what the gauges show of a sale; -1: nothing.
func difference(t *testing.T, gauges *inventory.Gauges, sale string) float64 {
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
