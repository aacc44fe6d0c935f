package lookup_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/queue"
)

// An accepted order whose ticket Redis lost goes back into the line while a
// unit is left, and is reported as failed when none is.
func TestALostOrderIsReadmitted(t *testing.T) {
	orders.EachDatabase(t, 2, 1, func(w *orders.World) {
		first, second := w.Admit("ann", 1), w.Admit("bob", 1)
		require.NoError(t, w.Redis.FlushAll(w.Ctx).Err())
		w.CatchUp()
		require.EqualValues(t, 2, w.Clean().LineStock, "nobody knows of them any more")

		v, err := w.Finder.Readmit(w.Ctx, w.Entry(), first)
		require.NoError(t, err)
		require.Equal(t, order.Queued, v.Status)
		require.EqualValues(t, 1, v.Position)
		again, err := w.Finder.Readmit(w.Ctx, w.Entry(), first)
		require.NoError(t, err)
		require.Equal(t, v, again, "a receipt works once")
		require.EqualValues(t, 1, w.Clean().InFlight)

		third := w.Admit("cat", 1) // somebody else takes the last unit
		v, err = w.Finder.Readmit(w.Ctx, w.Entry(), second)
		require.NoError(t, err)
		require.Equal(t, order.Failed, v.Status)
		require.Equal(t, queue.ReasonLost, v.Reason)

		w.Work()
		rows := w.Rows()
		require.Equal(t, order.Confirmed, rows[first.ID].Status)
		require.Equal(t, order.Confirmed, rows[third.ID].Status)
		require.Equal(t, order.Failed, rows[second.ID].Status, "the loss is on record")
		require.Equal(t, queue.ReasonLost, rows[second.ID].Reason)
		require.EqualValues(t, 2, w.Clean().Live)
	})
}

// A readmitted ticket belongs to the line as it is now: whoever comes later
// finds a place behind it, and the audit stays exact.
func TestTheLineGoesOnAfterAReadmittedOrder(t *testing.T) {
	orders.EachDatabase(t, 30, 1, func(w *orders.World) {
		var lost []queue.Ticket
		for range 8 {
			lost = append(lost, w.Admit(fmt.Sprintf("early-%d", len(lost)), 1))
		}
		require.NoError(t, w.Redis.FlushAll(w.Ctx).Err())
		w.CatchUp()
		waiting := w.Admit("waiting", 1)
		for _, i := range []int{7, 2} {
			_, err := w.Finder.Readmit(w.Ctx, w.Entry(), lost[i])
			require.NoError(t, err)
		}
		require.NoError(t, w.Canceller.Cancel(w.Ctx, orders.Sale, waiting.ID, "waiting"), "it still waits")
		w.Work()
		require.EqualValues(t, 2, w.Clean().Live)
		next := w.Admit("next", 1)
		require.EqualValues(t, 1, next.Position)
		v := w.View()
		require.LessOrEqual(t, v.Claimed, v.Seq)
		w.Work()
		require.EqualValues(t, 3, w.Clean().Live)
	})
}

// Whoever ordered again meanwhile does not get two.
func TestALostOrderIsNotReadmittedTwiceOver(t *testing.T) {
	w := orders.OnSQLite(t, 5, 1)
	lost := w.Admit("ann", 1)
	require.NoError(t, w.Redis.FlushAll(w.Ctx).Err())
	w.CatchUp()
	w.Admit("ann", 1)
	v, err := w.Finder.Readmit(w.Ctx, w.Entry(), lost)
	require.NoError(t, err)
	require.Equal(t, order.Failed, v.Status)
	w.Work()
	require.EqualValues(t, 1, w.Clean().Live)
}

func TestALostOrderIsNotReadmittedOnAnUnverifiedRedis(t *testing.T) {
	w := orders.OnSQLite(t, 5, 1)
	lost := w.Admit("ann", 1)
	entry := w.Entry()
	require.NoError(t, w.Redis.FlushAll(w.Ctx).Err())
	require.NoError(t, w.Redis.ScriptFlush(w.Ctx).Err())
	_, err := w.Finder.Readmit(w.Ctx, entry, lost)
	require.ErrorIs(t, err, queue.ErrNotReady)
}
