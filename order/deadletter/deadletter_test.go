package deadletter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/adminlog"
	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/order"
	"sluice/order/deadletter"
	"sluice/queue"
)

func logged(w *orders.World, action string) []adminlog.Entry {
	w.T.Helper()
	list, err := w.AdminLog(0).List(w.Ctx, adminlog.Filter{Action: action}, 0, 100)
	require.NoError(w.T, err)
	return list
}

func TestADeadLetterLivesAgain(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		dead := w.DeadLetters()
		ticket := w.Bury("ann", 1)
		list, _, err := dead.Find(w.Ctx, orders.Sale, deadletter.Filter{}, 0, 10)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, "ann", list[0].Ticket.User)
		require.EqualValues(t, 3, w.Clean().LineStock, "its unit is back on sale")

		require.NoError(t, dead.Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", "database is well again"))
		require.EqualValues(t, 1, w.Clean().InFlight)
		require.ErrorIs(t, dead.Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", "twice"), queue.ErrNotDead)
		w.Work()
		row := w.Rows()[ticket.ID]
		require.Equal(t, order.Confirmed, row.Status)
		require.Equal(t, "ann@example.com", row.Email, "its contact came back from the database")
		require.EqualValues(t, 1, w.Clean().Live)
		entries := logged(w, "dead.requeue")
		require.Len(t, entries, 1)
		require.Equal(t, []string{"olga", orders.Sale, ticket.ID, "database is well again"},
			[]string{entries[0].Actor, entries[0].SaleID, entries[0].Target, entries[0].Reason})
		require.Contains(t, entries[0].BeforeValue, `"state":"dead"`)
		require.Contains(t, entries[0].AfterValue, `"queued"`)
	})
}

func TestADeadLetterThatNoLongerFitsStays(t *testing.T) {
	orders.EachDatabase(t, 1, 1, func(w *orders.World) {
		dead := w.DeadLetters()
		ticket := w.Bury("ann", 1)
		w.Admit("bob", 1)
		require.ErrorIs(t, dead.Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""), queue.ErrSoldOut)
		require.Equal(t, order.Failed, w.Rows()[ticket.ID].Status, "the row that says so is back")
		w.Work()

		_, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 5, Actor: "test",
			Reason: "more found"})
		require.NoError(t, err)
		w.CatchUp()
		w.Admit("ann", 1)
		require.ErrorIs(t, dead.Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""), queue.ErrHeld)
		require.Empty(t, logged(w, "dead.requeue"), "what was refused is no change")

		require.NoError(t, dead.Drop(w.Ctx, orders.Sale, ticket.ID, "olga", "ordered again"))
		require.ErrorIs(t, dead.Drop(w.Ctx, orders.Sale, ticket.ID, "olga", ""), queue.ErrNotDead)
		dropped := logged(w, "dead.drop")
		require.Len(t, dropped, 1)
		require.Contains(t, dropped[0].AfterValue, `"dropped"`)
		_, err = dead.Show(w.Ctx, orders.Sale, ticket.ID)
		require.ErrorIs(t, err, queue.ErrNotDead)
		w.Clean()
	})
}

// A rebuild keeps dead letters for the operator.
func TestADeadLetterSurvivesARebuild(t *testing.T) {
	w := orders.OnSQLite(t, 3, 1)
	dead := w.DeadLetters()
	ticket := w.Bury("ann", 1)
	require.NoError(t, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
	letter, err := dead.Show(w.Ctx, orders.Sale, ticket.ID)
	require.NoError(t, err)
	require.NoError(t, letter.Err)
	require.NoError(t, dead.Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
	w.Work()
	require.Equal(t, order.Confirmed, w.Rows()[ticket.ID].Status)
	w.Clean()
}
