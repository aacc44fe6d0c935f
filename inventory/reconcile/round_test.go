package reconcile_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/queue"
)

// A round over lines that agree with their sales costs a few questions; the one that does not agree is still put right.
func TestReconcilerOfManySales(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		const sales = 120 // more than one round trip looks at
		for i := range sales {
			w.Create(orders.NewSale(fmt.Sprintf("sale-%03d", i), 10, 1))
		}
		w.CatchUp()
		count := &testkit.Trips{}
		w.Redis.AddHook(count)
		round := func() int64 {
			before := count.Rounds.Load()
			w.CatchUp()
			return count.Rounds.Load() - before
		}
		round() // Redis learns the script
		require.LessOrEqual(w.T, round(), int64(5))

		odd := w.Lines.Of("sale-077")
		view := func() int64 {
			v, err := odd.View(w.Ctx)
			require.NoError(w.T, err)
			return v.Stock
		}
		w.Exec("UPDATE stock SET total = total + 5, available = available + 5 WHERE sale_id = 'sale-077'")
		w.Exec("UPDATE sales SET version = version + 1 WHERE id = 'sale-077'")
		round()
		require.EqualValues(w.T, 15, view(), "a changed sale")

		w.LoseLine("sale-077")
		round()
		require.EqualValues(w.T, 15, view(), "a line that is gone")

		w.Reconciler.SetCaps(inventory.CapPolicy{Cap: 77, MinCap: 1})
		round()
		v, err := odd.View(w.Ctx)
		require.NoError(w.T, err)
		require.EqualValues(w.T, 77, v.Cap)
		require.LessOrEqual(w.T, round(), int64(5), "and then they agree again")
	})
}

func TestTheReconcilerWorksPastABrokenLine(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.OpenAroundBroken(10)
		_, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 5, Actor: "test",
			Reason: "found"})
		require.NoError(w.T, err)
		err = w.Reconciler.Reconcile(w.Ctx)
		for _, id := range []string{"a-broken", "sale-broken", "z-broken"} {
			require.ErrorContains(w.T, err, "{"+id+"/0}", "each is reported")
		}
		require.EqualValues(w.T, 15, w.View().Stock, "and the healthy one kept in the same round")
	})
}

// Units that cannot come back keep neither a pause from their own line nor its stock from another.
func TestWhatCannotBeReleasedKeepsNoPauseFromItsLine(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(10, 1)
		w.Admit("ann", 1)
		w.WorkOff(1)
		w.Exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0")
		require.NoError(w.T, w.Redis.Del(w.Ctx, "sluice:{"+orders.Sale+"/0}:holders").Err())
		require.NoError(w.T, w.Redis.Set(w.Ctx, "sluice:{"+orders.Sale+"/0}:holders", "no hash", 0).Err())
		_, _, err := w.Sales.SetState(w.Ctx, orders.Sale, inventory.Paused, "test", "")
		require.NoError(w.T, err)
		require.ErrorContains(w.T, w.Reconciler.Reconcile(w.Ctx), "WRONGTYPE")
		require.Equal(w.T, inventory.Paused, w.View().State)
		require.EqualValues(w.T, 9, w.View().Stock, "as often as it is tried")
	})
}

// A line whose rebuild takes its time, or panics, keeps no other from being kept.
func TestASlowRebuildHoldsUpNoOther(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Create(orders.NewSale("a-slow", 10, 1))
		w.Create(orders.NewSale("b-panics", 10, 1))
		w.Open(10, 1)
		begun, release := make(chan struct{}, 100), make(chan struct{})
		w.Reconciler.RestoreBy(func(ctx context.Context, r reconcile.Restoration) (reconcile.Restored, error) {
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
			return reconcile.Restored{}, ctx.Err()
		})
		for _, id := range []string{"a-slow", "b-panics"} {
			// A confirmed order that the database has never had: its rebuild must ask for it.
			require.NoError(w.T, w.Redis.HSet(w.Ctx, "sluice:{"+id+"/0}:meta", "ledger", 99).Err())
			record := queue.Ticket{ID: "told", User: "ann", Seq: 1, Units: 1, Slot: 1, State: queue.Confirmed,
				AdmittedAt: time.Now(), At: time.Now()}
			tell(w, id, record)
		}
		ctx, stop := context.WithCancel(w.Ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.Reconciler.Run(ctx)
		}()
		<-begun
		for range 3 {
			_, stock := w.Get()
			_, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 5, Actor: "test",
				Reason: "found"})
			require.NoError(w.T, err)
			w.Reconciler.Wake()
			require.Eventually(w.T, func() bool { return w.View().Stock == stock.Total+5 }, orders.Soon,
				time.Millisecond)
		}
		close(release)
		stop()
		<-ended
	})
}

// tell makes a line say that it has told an order confirmed.
func tell(w *orders.World, sale string, t queue.Ticket) {
	w.T.Helper()
	record := strings.Join([]string{"c", "1", "1", "1", t.User, "1700000000000", "print", "1", "0", "1700000000000",
		"", "", "", "", ""}, "\t")
	require.NoError(w.T, w.Redis.HSet(w.Ctx, "sluice:{"+sale+"/0}:orders", t.ID, record).Err())
	require.NoError(w.T, w.Redis.HSet(w.Ctx, "sluice:{"+sale+"/0}:holders", t.User, t.ID+":1:1").Err())
}
