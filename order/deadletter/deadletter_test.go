package order_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/adminlog"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

func (w *world) adminLog() *adminlog.Log { return w.adminLogOf(0) }

func (w *world) adminLogOf(instance int64) *adminlog.Log {
	return adminlog.New(w.db, slog.New(slog.DiscardHandler), time.Now, instance)
}

func (w *world) logged(action string) []adminlog.Entry {
	w.t.Helper()
	list, err := w.adminLog().List(w.ctx, adminlog.Filter{Action: action}, 0, 100)
	require.NoError(w.t, err)
	return list
}

// bury takes one order to its death and returns its ticket.
func (w *world) bury(user string, units int) queue.Ticket {
	w.t.Helper()
	ticket := w.admit(user, units)
	b := w.claim(1)
	outcomes, err := w.fulfiller.Bury(w.ctx, b, "gave up after 5 attempts")
	require.NoError(w.t, err)
	w.settle(b, byID(outcomes))
	require.Equal(w.t, order.Failed, w.rows()[ticket.ID].Status)
	return ticket
}

func TestADeadLetterLivesAgain(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		dead := order.NewDeadLetters(w.db, w.lines, w.adminLog())
		ticket := w.bury("ann", 1)
		list, _, err := dead.Find(w.ctx, theSale, order.LetterFilter{}, 0, 10)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, "ann", list[0].Ticket.User)
		require.EqualValues(t, 3, w.clean().LineStock, "its unit is back on sale")

		require.NoError(t, dead.Requeue(w.ctx, theSale, ticket.ID, "olga", "database is well again"))
		require.EqualValues(t, 1, w.clean().InFlight)
		require.ErrorIs(t, dead.Requeue(w.ctx, theSale, ticket.ID, "olga", "twice"), queue.ErrNotDead)
		w.work()
		row := w.rows()[ticket.ID]
		require.Equal(t, order.Confirmed, row.Status)
		require.Equal(t, "ann@example.com", row.Email, "its contact came back from the database")
		require.EqualValues(t, 1, w.clean().Live)
		entries := w.logged("dead.requeue")
		require.Len(t, entries, 1)
		require.Equal(t, []string{"olga", theSale, ticket.ID, "database is well again"},
			[]string{entries[0].Actor, entries[0].SaleID, entries[0].Target, entries[0].Reason})
		require.Contains(t, entries[0].BeforeValue, `"state":"dead"`)
		require.Contains(t, entries[0].AfterValue, `"queued"`)
	})
}

func TestADeadLetterThatNoLongerFitsStays(t *testing.T) {
	eachDatabase(t, 1, 1, func(w *world) {
		dead := order.NewDeadLetters(w.db, w.lines, w.adminLog())
		ticket := w.bury("ann", 1)
		w.admit("bob", 1)
		require.ErrorIs(t, dead.Requeue(w.ctx, theSale, ticket.ID, "olga", ""), queue.ErrSoldOut)
		require.Equal(t, order.Failed, w.rows()[ticket.ID].Status, "the row that says so is back")
		w.work()

		_, err := w.sales.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 5, Actor: "test",
			Reason: "more found"})
		require.NoError(t, err)
		w.keep()
		w.admit("ann", 1)
		require.ErrorIs(t, dead.Requeue(w.ctx, theSale, ticket.ID, "olga", ""), queue.ErrHeld)
		require.Empty(t, w.logged("dead.requeue"), "what was refused is no change")

		require.NoError(t, dead.Drop(w.ctx, theSale, ticket.ID, "olga", "ordered again"))
		require.ErrorIs(t, dead.Drop(w.ctx, theSale, ticket.ID, "olga", ""), queue.ErrNotDead)
		dropped := w.logged("dead.drop")
		require.Len(t, dropped, 1)
		require.Contains(t, dropped[0].AfterValue, `"dropped"`)
		_, err = dead.Show(w.ctx, theSale, ticket.ID)
		require.ErrorIs(t, err, queue.ErrNotDead)
		w.clean()
	})
}

// A rebuild keeps dead letters for the operator.
func TestADeadLetterSurvivesARebuild(t *testing.T) {
	w := onSQLite(t, 3, 1)
	dead := order.NewDeadLetters(w.db, w.lines, w.adminLog())
	ticket := w.bury("ann", 1)
	require.NoError(t, w.reconciler.Rebuild(w.ctx, theSale))
	letter, err := dead.Show(w.ctx, theSale, ticket.ID)
	require.NoError(t, err)
	require.NoError(t, letter.Err)
	require.NoError(t, dead.Requeue(w.ctx, theSale, ticket.ID, "olga", ""))
	w.work()
	require.Equal(t, order.Confirmed, w.rows()[ticket.ID].Status)
	w.clean()
}

func (w *world) entry() *inventory.Entry {
	w.t.Helper()
	require.NoError(w.t, w.cache.Refresh(w.ctx))
	e, ok := w.cache.Get(theSale)
	require.True(w.t, ok)
	return e
}

// An accepted order whose ticket Redis lost goes back into the line while a
// unit is left, and is reported as failed when none is.
func TestALostOrderIsHonoured(t *testing.T) {
	eachDatabase(t, 2, 1, func(w *world) {
		first, second := w.admit("ann", 1), w.admit("bob", 1)
		require.NoError(t, w.rdb.FlushAll(w.ctx).Err())
		w.keep()
		require.EqualValues(t, 2, w.clean().LineStock, "nobody knows of them any more")

		v, err := w.finder.Readmit(w.ctx, w.entry(), first)
		require.NoError(t, err)
		require.Equal(t, order.Queued, v.Status)
		require.EqualValues(t, 1, v.Position)
		again, err := w.finder.Readmit(w.ctx, w.entry(), first)
		require.NoError(t, err)
		require.Equal(t, v, again, "a receipt works once")
		require.EqualValues(t, 1, w.clean().InFlight)

		third := w.admit("cat", 1) // somebody else takes the last unit
		v, err = w.finder.Readmit(w.ctx, w.entry(), second)
		require.NoError(t, err)
		require.Equal(t, order.Failed, v.Status)
		require.Equal(t, queue.ReasonLost, v.Reason)

		w.work()
		rows := w.rows()
		require.Equal(t, order.Confirmed, rows[first.ID].Status)
		require.Equal(t, order.Confirmed, rows[third.ID].Status)
		require.Equal(t, order.Failed, rows[second.ID].Status, "the loss is on record")
		require.Equal(t, queue.ReasonLost, rows[second.ID].Reason)
		require.EqualValues(t, 2, w.clean().Live)
	})
}

// An honoured ticket belongs to the line as it is now: whoever comes later
// finds a place behind it, and the audit stays exact.
func TestTheLineGoesOnAfterAnHonouredOrder(t *testing.T) {
	eachDatabase(t, 30, 1, func(w *world) {
		var lost []queue.Ticket
		for range 8 {
			lost = append(lost, w.admit(fmt.Sprintf("early-%d", len(lost)), 1))
		}
		require.NoError(t, w.rdb.FlushAll(w.ctx).Err())
		w.keep()
		waiting := w.admit("waiting", 1)
		for _, i := range []int{7, 2} {
			_, err := w.finder.Readmit(w.ctx, w.entry(), lost[i])
			require.NoError(t, err)
		}
		require.NoError(t, w.canceller.Cancel(w.ctx, theSale, waiting.ID, "waiting"), "it still waits")
		w.work()
		require.EqualValues(t, 2, w.clean().Live)
		next := w.admit("next", 1)
		require.EqualValues(t, 1, next.Position)
		v := w.view()
		require.LessOrEqual(t, v.Claimed, v.Seq)
		w.work()
		require.EqualValues(t, 3, w.clean().Live)
	})
}

// Whoever ordered again meanwhile does not get two.
func TestALostOrderIsNotHonouredTwiceOver(t *testing.T) {
	w := onSQLite(t, 5, 1)
	lost := w.admit("ann", 1)
	require.NoError(t, w.rdb.FlushAll(w.ctx).Err())
	w.keep()
	w.admit("ann", 1)
	v, err := w.finder.Readmit(w.ctx, w.entry(), lost)
	require.NoError(t, err)
	require.Equal(t, order.Failed, v.Status)
	w.work()
	require.EqualValues(t, 1, w.clean().Live)
}

func TestALostOrderIsNotHonouredOnAnUnverifiedRedis(t *testing.T) {
	w := onSQLite(t, 5, 1)
	lost := w.admit("ann", 1)
	entry := w.entry()
	require.NoError(t, w.rdb.FlushAll(w.ctx).Err())
	require.NoError(t, w.rdb.ScriptFlush(w.ctx).Err())
	_, err := w.finder.Readmit(w.ctx, entry, lost)
	require.ErrorIs(t, err, queue.ErrNotReady)
}
