package order_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

// Redis forgot what a user holds and admits another order: the database does
// not forget.
func TestUserWhoHoldsAnOrderFails(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		held := w.Admit("ann", 1)
		w.Work()
		require.NoError(w.T, w.Redis.HDel(w.Ctx, "sluice:{sale/0}:holders", "ann").Err())
		second := w.Admit("ann", 1)
		w.AdmitMany(5)
		b := w.Claim(10)
		outcomes := w.Handle(b)
		require.Equal(w.T, map[string]int{"c": 5, "f" + order.ReasonLimit: 1}, orders.Ops(outcomes))
		require.Equal(w.T, queue.Outcome{ID: second.ID, Op: queue.OpFail, Reason: order.ReasonLimit},
			timeless(outcomes[second.ID]))
		row := w.Rows()[second.ID]
		require.Equal(w.T, order.Failed, row.Status)
		require.Equal(w.T, order.ReasonLimit, row.Reason)
		require.Nil(w.T, row.Slot)
		require.Positive(w.T, row.EndedAt)
		require.Zero(w.T, row.ConfirmedAt)
		require.Equal(w.T, order.Confirmed, w.Rows()[held.ID].Status)
		require.Equal(w.T, timelessAll(outcomes), timelessAll(w.Handle(b)), "a second delivery is answered alike")
		require.Equal(w.T, map[string]int{"order.confirmed stream": 6, "order.confirmed email": 6,
			"order.failed stream": 1, "order.failed email": 1}, w.News())
		w.Settle(b, outcomes)
		require.EqualValues(w.T, 6, w.Clean().Live)
	})
}

// The limit is three units; Redis forgot an order of two, so the slot of the
// next order is free in the line but its units are not.
func TestLimitCountsUnitsThatRedisForgot(t *testing.T) {
	orders.EachDatabase(t, 100, 3, func(w *orders.World) {
		w.Admit("ann", 2)
		w.Work()
		require.NoError(w.T, w.Redis.HDel(w.Ctx, "sluice:{sale/0}:holders", "ann").Err())
		// Redis gives out slot 1 again; a slot of its own would even pass the unique key.
		second := w.Admit("ann", 2)
		w.Admit("bob", 3)
		b := w.Claim(2)
		for i := range b.Tickets {
			if b.Tickets[i].ID == second.ID {
				b.Tickets[i].Slot = 2
			}
		}
		outcomes := w.Handle(b)
		require.Equal(w.T, map[string]int{"c": 1, "f" + order.ReasonLimit: 1}, orders.Ops(outcomes))
		require.Equal(w.T, queue.OpFail, outcomes[second.ID].Op)
		require.EqualValues(w.T, 95, w.Available())
		require.Equal(w.T, order.Failed, w.Rows()[second.ID].Status)
		w.Settle(b, outcomes)

		third := w.Admit("ann", 1) // one more unit is within the limit
		b = w.Claim(1)
		b.Tickets[0].Slot = 2
		require.Equal(w.T, queue.OpConfirm, w.Handle(b)[third.ID].Op)
	})
}

// The cache is refreshed only now and then; the limit that counts is the
// sale's own.
func TestRaisedLimitCountsAtOnce(t *testing.T) {
	orders.EachDatabase(t, 100, 2, func(w *orders.World) {
		w.Admit("ann", 2)
		w.Work()
		raised := 3
		_, _, err := w.Sales.Update(w.Ctx, orders.Sale, inventory.Change{PerUserLimit: &raised}, "test", "")
		require.NoError(w.T, err)
		require.NoError(w.T, w.Reconciler.Reconcile(w.Ctx))
		third := w.Admit("ann", 1)
		b := w.Claim(1)
		require.Equal(w.T, queue.OpConfirm, w.Handle(b)[third.ID].Op)
	})
}
