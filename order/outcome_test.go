package order_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/queue"
)

func TestCancelledTicketIsRecorded(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		w.AdmitMany(3)
		gone := w.Admit("ann", 1)
		require.NoError(w.T, w.Line.Cancel(w.Ctx, gone.ID, "ann"))
		b := w.Claim(4)
		outcomes := w.Handle(b)
		require.Equal(w.T, map[string]int{"c": 3, "k": 1}, orders.Ops(outcomes))
		require.EqualValues(w.T, 97, w.Available())
		row := w.Rows()[gone.ID]
		require.Equal(w.T, order.Cancelled, row.Status)
		require.Nil(w.T, row.Slot)
		require.Equal(w.T, 1, row.Released, "its unit came back when it was cancelled")
		require.Positive(w.T, row.EndedAt)
		require.Equal(w.T, outcomes, w.Handle(b))
		buried, err := w.Fulfiller.Bury(w.Ctx, queue.Batch{Sale: orders.Sale, Epoch: b.Epoch, Tickets: b.Tickets[3:]},
			"gave up")
		require.NoError(w.T, err)
		require.Equal(w.T, queue.OpClose, buried[0].Op)
		w.Settle(b, outcomes)
		require.Equal(w.T, map[string]int{"order.confirmed stream": 3, "order.confirmed email": 3,
			"order.cancelled stream": 1, "order.cancelled email": 1}, w.News())
		w.Clean()
	})
}

// A worker that fell asleep before its line was rebuilt must not commit
// behind the back of the rebuild, which did not count its tickets.
func TestWorkerFromBeforeARebuildIsRefused(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		w.AdmitMany(5)
		b := w.Claim(5)
		require.NoError(w.T, w.Redis.FlushAll(w.Ctx).Err())
		w.CatchUp()
		outcomes, err := w.Fulfiller.Handle(w.Ctx, b)
		require.Error(w.T, err, "%v", outcomes)
		require.Empty(w.T, outcomes)
		require.Empty(w.T, w.Rows())
		require.EqualValues(w.T, 100, w.Clean().LineStock)
	})
}

// timeless leaves out when it happened.
// timeless leaves out when it was, by clock and by the ledger's changes.
func timeless(o queue.Outcome) queue.Outcome {
	o.At, o.Ledger = time.Time{}, 0
	return o
}

// A ticket whose order was made and then cancelled, before its settle got
// through, ends as cancelled for its owner, and its unit returns once.
func TestTicketOfACancelledOrderEndsAsCancelled(t *testing.T) {
	orders.EachDatabase(t, 5, 1, func(w *orders.World) {
		ticket := w.Admit("ann", 1)
		b := w.Claim(1)
		w.Handle(b) // committed, but never settled
		w.Exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0, ended_at = ? WHERE id = ?",
			time.Now().UnixMilli(), ticket.ID)
		w.Exec("UPDATE stock SET available = available + 1")
		w.EndLease(b)
		again := w.Claim(1)
		outcomes := w.Handle(again)
		require.Equal(w.T, queue.OpEnded, outcomes[ticket.ID].Op)
		w.Settle(again, outcomes)
		views, err := w.Finder.Many(w.Ctx, orders.Sale, []string{ticket.ID})
		require.NoError(w.T, err)
		require.Equal(w.T, order.Cancelled, views[ticket.ID].Status)
		require.Equal(w.T, w.Rows()[ticket.ID].EndedAt, views[ticket.ID].EndedAt.UnixMilli(),
			"both stores tell the same time")
		w.CatchUp()
		require.EqualValues(w.T, 5, w.Clean().LineStock)
	})
}

// What a rebuild brings back of an ended order still answers a repeated
// request, and still refuses another payload.
func TestReplayOfAnEndedOrderOutlivesARebuild(t *testing.T) {
	orders.EachDatabase(t, 5, 1, func(w *orders.World) {
		request := w.Request("ann", 1)
		first := w.Try(orders.Sale, request)
		require.NoError(w.T, first.Err)
		w.Work()
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, request.ID, "ann"))
		require.NoError(w.T, w.Redis.FlushAll(w.Ctx).Err())
		w.CatchUp()
		again := w.Try(orders.Sale, request)
		require.True(w.T, again.Replayed)
		require.Equal(w.T, queue.Cancelled, again.Ticket.State)
		require.Equal(w.T, []int64{first.Ticket.Position, first.Ticket.ETASeconds},
			[]int64{again.Ticket.Position, again.Ticket.ETASeconds})
		request.Fingerprint = "another"
		require.ErrorIs(w.T, w.Try(orders.Sale, request).Err, queue.ErrMismatch)
		require.EqualValues(w.T, 5, w.Clean().LineStock)
	})
}

func timelessAll(outcomes map[string]queue.Outcome) map[string]queue.Outcome {
	all := make(map[string]queue.Outcome, len(outcomes))
	for id, o := range outcomes {
		all[id] = timeless(o)
	}
	return all
}
