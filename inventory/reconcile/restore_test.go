package reconcile_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/order"
	"sluice/order/restore"
)

// ledger is what a database has of a sale, to come back to it.
type ledger struct {
	orders, outbox, stock []map[string]any
}

func copyLedger(w *orders.World) (l ledger) {
	w.T.Helper()
	for table, to := range map[string]*[]map[string]any{"orders": &l.orders, "outbox": &l.outbox, "stock": &l.stock} {
		require.NoError(w.T, w.DB.Write.Table(table).Where("sale_id = ?", orders.Sale).Find(to).Error)
	}
	return l
}

// lose brings the database back as it was, without the commits since: an asynchronous failover, or a restored dump.
func lose(w *orders.World, l ledger) {
	w.T.Helper()
	for _, table := range []string{"outbox", "orders"} {
		w.Exec("DELETE FROM "+table+" WHERE sale_id = ?", orders.Sale)
	}
	for table, rows := range map[string][]map[string]any{"orders": l.orders, "outbox": l.outbox} {
		for _, row := range rows {
			require.NoError(w.T, w.DB.Write.Table(table).Create(row).Error)
		}
	}
	s := l.stock[0]
	w.Exec("UPDATE stock SET total = ?, available = ?, changes = ? WHERE sale_id = ?", s["total"], s["available"],
		s["changes"], orders.Sale)
}

func restorer(w *orders.World) {
	w.Reconciler.RestoreBy(restore.NewRestorer(w.DB, []string{"stream"}, time.Now, "test").Restore)
}

func statuses(w *orders.World) map[string]string {
	w.T.Helper()
	var rows []struct{ ID, Status string }
	require.NoError(w.T, w.DB.Write.Table("orders").Where("sale_id = ?", orders.Sale).Find(&rows).Error)
	found := map[string]string{}
	for _, r := range rows {
		found[r.ID] = r.Status
	}
	return found
}

// Orders that were told confirmed come back first, in their place; what was cancelled stays cancelled (case S10).
func TestADatabaseThatLostCommitsGetsThemBack(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		restorer(w)
		w.Open(8, 1)
		early := w.AdmitMany(3)
		w.WorkOff(3)
		before := copyLedger(w)
		late := w.AdmitMany(4)
		w.WorkOff(4)
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, early[0].ID, early[0].User))
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, late[0].ID, late[0].User))
		waiting := w.Admit("waiter", 1)
		lose(w, before)

		// A worker that claims now makes nothing: the ledger lacks what the line knows.
		b := w.Claim(1)
		_, err := w.Fulfiller.Handle(w.Ctx, b)
		require.ErrorIs(w.T, err, inventory.ErrBehind)
		epoch := w.View().Epoch
		w.CatchUp()
		require.Equal(w.T, epoch+1, w.View().Epoch, "noticed in the first round")
		got := statuses(w)
		for _, t := range append(early[1:], late[1:]...) {
			require.Equal(w.T, order.Confirmed, got[t.ID])
		}
		require.Equal(w.T, order.Cancelled, got[early[0].ID])
		require.Equal(w.T, order.Cancelled, got[late[0].ID])
		r := w.Clean()
		require.EqualValues(w.T, 5, r.Live)
		require.EqualValues(w.T, 1, r.InFlight)
		require.EqualValues(w.T, 2, r.LineStock)
		require.EqualValues(w.T, 5, r.Restored)
		require.Zero(w.T, r.Refused+r.Lost)
		w.WorkOff(1)
		require.Equal(w.T, order.Confirmed, statuses(w)[waiting.ID])
		w.CatchUp()
		require.Equal(w.T, epoch+1, w.View().Epoch, "once is enough")
		w.Clean()
	})
}

// Also after its sale is over a line that knows more than the database is not dropped before it has been put back: a
// dump is restored when the trouble is over.
func TestAFinishedLineGivesBackWhatTheDatabaseLost(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	restorer(w)
	w.Open(3, 1)
	before := copyLedger(w)
	told := w.AdmitMany(3)
	w.WorkOff(3)
	lose(w, before)
	w.Exec("UPDATE sales SET ends_at = ? WHERE id = ?", time.Now().Add(-inventory.LineKept-time.Minute).UnixMilli(),
		orders.Sale)
	w.CatchUp()
	got := statuses(w)
	for _, t := range told {
		require.Equal(w.T, order.Confirmed, got[t.ID])
	}
	w.CatchUp()
	require.False(t, w.View().Exists, "then it goes")
	w.Clean()
}

// Nobody reads "sold out" because the database has lost units that were added: a worker finds out that they are lost,
// whether something was sold since or not.
func TestUnitsThatTheDatabaseLostAreNotSoldOut(t *testing.T) {
	for name, soldSince := range map[string]int{"sold since": 1, "not sold since": 0} {
		t.Run(name, func(t *testing.T) {
			orders.EachEmpty(t, func(w *orders.World) { loseAddedUnits(w, soldSince) })
		})
	}
}

func loseAddedUnits(w *orders.World, soldSince int) {
	restorer(w)
	w.Open(2, 1)
	w.AdmitMany(2)
	w.WorkOff(2)
	before := copyLedger(w)
	sale, _ := w.Get()
	_, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 4, Actor: "ann",
		Reason: "found a box"})
	require.NoError(w.T, err)
	w.CatchUp()
	late := w.AdmitMany(4)
	w.WorkOff(soldSince)
	lose(w, before)
	w.Exec("UPDATE sales SET version = ? WHERE id = ?", sale.Version, orders.Sale)

	b := w.Claim(4)
	_, err = w.Fulfiller.Handle(w.Ctx, b)
	require.ErrorIs(w.T, err, inventory.ErrBehind)
	w.CatchUp()
	w.WorkOff(4)
	got := statuses(w)
	for _, t := range late {
		require.Equal(w.T, order.Confirmed, got[t.ID])
	}
	w.Clean()
}

// Nobody reads that they hold another order because the database has lost its end.
func TestAnEndThatTheDatabaseLostTakesNobodysPlace(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		restorer(w)
		w.Open(3, 1)
		first := w.Admit("ann", 1)
		w.WorkOff(1)
		before := copyLedger(w)
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, first.ID, "ann"))
		second := w.Admit("ann", 1)
		lose(w, before)

		b := w.Claim(1)
		_, err := w.Fulfiller.Handle(w.Ctx, b)
		require.ErrorIs(w.T, err, inventory.ErrBehind)
		w.CatchUp()
		w.WorkOff(1)
		got := statuses(w)
		require.Equal(w.T, []string{order.Cancelled, order.Confirmed}, []string{got[first.ID], got[second.ID]})
		w.Clean()
	})
}

// An order that a rebuild has shown as confirmed while its ticket is still listed, and a dead letter, are known to the
// line too.
func TestListedOrdersAndDeadLettersAreGivenBack(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		restorer(w)
		w.Open(4, 1)
		before := copyLedger(w)
		listed, dead := w.Admit("ann", 1), w.Admit("bob", 1)
		b := w.Claim(1)
		_, err := w.Fulfiller.Handle(w.Ctx, b)
		require.NoError(w.T, err)
		b = w.Claim(1)
		require.Equal(w.T, dead.ID, b.Tickets[0].ID)
		outcomes, err := w.Fulfiller.Bury(w.Ctx, b, "given up")
		require.NoError(w.T, err)
		require.NoError(w.T, w.Line.Settle(w.Ctx, b, outcomes))
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		lose(w, before)
		w.CatchUp()
		got := statuses(w)
		require.Equal(w.T, []string{order.Confirmed, order.Failed}, []string{got[listed.ID], got[dead.ID]})
		letters, err := w.Line.DeadLetters(w.Ctx, 0, 10)
		require.NoError(w.T, err)
		require.Len(w.T, letters, 1)
		w.WorkOff(1)
		require.EqualValues(w.T, 1, w.Clean().Live)
	})
}

// A failed order whose row the database refuses for its data is recorded with less of it, and holds up no other.
func TestARowThatIsRefusedHoldsUpNoRestoring(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	restorer(w)
	w.Open(4, 1)
	before := copyLedger(w)
	w.Exec("CREATE TRIGGER refuse BEFORE INSERT ON orders WHEN NEW.user_id = 'bob' BEGIN SELECT RAISE(ABORT, " +
		"'no'); END")
	ann, bob := w.Admit("ann", 1), w.Admit("bob", 1)
	w.WorkOff(1)
	b := w.Claim(1)
	outcomes, err := w.Fulfiller.Bury(w.Ctx, b, "given up")
	require.NoError(t, err)
	require.NoError(t, w.Line.Settle(w.Ctx, b, outcomes))
	lose(w, before)
	w.CatchUp()
	got := statuses(w)
	require.Equal(t, []string{order.Confirmed, order.Failed}, []string{got[ann.ID], got[bob.ID]})
	w.Clean()
}

// A worker that comes late writes as failed what the database lost and the line knows as confirmed. It was told: it
// stays an order.
func TestALateWorkerFailsNoConfirmedOrder(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		restorer(w)
		w.Open(2, 1)
		before := copyLedger(w)
		w.Admit("ann", 1)
		b := w.Claim(1)
		outcomes, err := w.Fulfiller.Handle(w.Ctx, b)
		require.NoError(w.T, err)
		require.NoError(w.T, w.Line.Settle(w.Ctx, b, outcomes))
		lose(w, before)
		_, err = w.Fulfiller.Bury(w.Ctx, b, "given up")
		require.NoError(w.T, err)
		require.Equal(w.T, order.Failed, statuses(w)[b.Tickets[0].ID])

		w.CatchUp()
		require.Equal(w.T, order.Confirmed, statuses(w)[b.Tickets[0].ID])
		r := w.Clean()
		require.EqualValues(w.T, []int64{1, 1, 1}, []int64{r.Live, r.LineStock, r.Available})
	})
}

// Commits that are lost once more, while a rebuild is at work, take nothing from the line: it begins again.
func TestCommitsThatAreLostTwice(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(2, 1)
	before := copyLedger(w)
	tickets := w.AdmitMany(1)
	w.WorkOff(1)
	lose(w, before)
	again, restore := true, restore.NewRestorer(w.DB, []string{"stream"}, time.Now, "test").Restore
	w.Reconciler.RestoreBy(func(ctx context.Context, r reconcile.Restoration) (reconcile.Restored, error) {
		done, err := restore(ctx, r)
		if again {
			again = false
			lose(w, before)
		}
		return done, err
	})
	require.ErrorContains(t, w.Reconciler.Reconcile(w.Ctx), "lost orders again")
	require.True(t, w.View().Rebuilding, "nothing is sold meanwhile")
	w.Clock.Advance(reconcile.RebuildLease)
	w.CatchUp()
	require.Equal(t, order.Confirmed, statuses(w)[tickets[0].ID])
	w.Clean()
}

// What operators had set is known to the line, too: a stop is not undone, and added units that were sold are there
// again.
func TestADatabaseThatLostSettingsGetsThemBack(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		restorer(w)
		w.Open(2, 1)
		before := copyLedger(w)
		sale, _ := w.Get()
		_, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 3, Actor: "ann",
			Reason: "found a box"})
		require.NoError(w.T, err)
		w.CatchUp()
		w.AdmitMany(5)
		w.WorkOff(5)
		require.NoError(w.T, errors.Join(w.Reconciler.SyncLine(w.Ctx, orders.Sale)))
		_, _, err = w.Sales.SetState(w.Ctx, orders.Sale, inventory.Paused, "ann", "")
		require.NoError(w.T, err)
		w.CatchUp()
		lose(w, before)
		w.Exec("UPDATE sales SET state = 'open', version = ? WHERE id = ?", sale.Version, orders.Sale)

		w.CatchUp()
		sale, stock := w.Get()
		require.Equal(w.T, inventory.Paused, sale.State)
		require.EqualValues(w.T, []int64{5, 0}, []int64{stock.Total, stock.Available})
		require.EqualValues(w.T, 5, w.Clean().Live)
	})
}
