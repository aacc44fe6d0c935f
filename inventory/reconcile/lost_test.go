package reconcile_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/queue"
)

// Where no unit is left for an order that was told confirmed, it fails, is counted, and its owner is told.
func TestWhatCannotBePutBackIsTold(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		restorer(w)
		w.Open(3, 1)
		before := copyLedger(w)
		told := w.AdmitMany(3)
		w.WorkOff(3)
		lose(w, before)
		w.Exec("UPDATE stock SET total = 2, available = 2 WHERE sale_id = ?", orders.Sale)
		w.CatchUp()
		got := statuses(w)
		require.Equal(w.T, []string{order.Confirmed, order.Confirmed, order.Failed},
			[]string{got[told[0].ID], got[told[1].ID], got[told[2].ID]})
		known, _, err := w.Line.Lookup(w.Ctx, []string{told[2].ID})
		require.NoError(w.T, err)
		require.Equal(w.T, queue.ReasonLost, known[told[2].ID].Reason)
		var news int64
		require.NoError(w.T, w.DB.Read.Table("outbox").Where("order_id = ? AND event = 'order.failed'", told[2].ID).
			Count(&news).Error)
		require.EqualValues(w.T, 1, news)
		require.EqualValues(w.T, 1, w.Clean().Refused)
	})
}

// A request that is repeated when the line has forgotten its order draws a sequence, and is no order that is missing.
func TestARepeatedRequestOfAForgottenOrderIsNotMissing(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(20, 1)
		ticket := w.Admit("ann", 1)
		w.WorkOff(1)
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, ticket.ID, "ann"))
		repeat := func() {
			require.NoError(w.T, w.Redis.HDel(w.Ctx, orders.Key("orders"), ticket.ID).Err())
			require.NoError(w.T, w.Redis.LRem(w.Ctx, orders.Key("done"), 0, ticket.ID).Err())
			w.Tickets = 0
			require.Equal(w.T, ticket.ID, w.Admit("ann", 1).ID)
			w.Clean()
		}
		repeat()
		w.WorkOff(1)
		w.Clean()
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		require.Zero(w.T, w.Clean().Lost)

		repeat()
		// Its sequence is of an earlier loading when it ends.
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		w.WorkOff(1)
		require.Zero(w.T, w.Clean().Lost)
	})
}

// A record that somebody has overwritten tells neither unit nor user: the rebuild that mends the difference frees both.
func TestAnOverwrittenTicketIsMended(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(5, 1)
	spoilt := w.Admit("ann", 1)
	w.Admit("bob", 1)
	require.NoError(t, w.Redis.HSet(w.Ctx, orders.Key("orders"), spoilt.ID, "garbage").Err())
	b := w.Claim(2)
	require.Len(t, b.Poisoned, 1)
	outcomes, err := w.Fulfiller.Handle(w.Ctx, b)
	require.NoError(t, err)
	outcomes = append(outcomes, queue.Outcome{ID: spoilt.ID, Op: queue.OpDead, Reason: "unreadable"})
	require.NoError(t, w.Line.Settle(w.Ctx, b, outcomes))
	r := w.Audit()
	require.EqualValues(t, []int64{1, 1}, []int64{r.Difference, r.Missing})
	require.NoError(t, w.Reconciler.Mend(w.Ctx, r))
	r = w.Clean()
	require.EqualValues(t, []int64{4, 1, 1}, []int64{r.LineStock, r.Live, r.Lost})
	w.Admit("ann", 1)
}
