package order_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/inventory/audit"
	"sluice/order"
)

// A line that was dropped shows no payment, and nobody waits for it.
func TestAPaymentAfterTheLineHasGoneIsAnsweredAtOnce(t *testing.T) {
	orders.EachUnpaid(t, 3, 1, func(w *orders.World) {
		ticket := w.Confirm("ann", 1)
		keys, err := w.Redis.Keys(w.Ctx, orders.Key("*")).Result()
		require.NoError(t, err)
		require.NoError(t, w.Redis.Del(w.Ctx, keys...).Err())
		before := w.Calls()
		paying, err := w.Pay(ticket.ID, orders.Pays(ticket.ID, 1))
		require.NoError(t, err)
		require.Equal(t, order.PaymentAccepted, paying.Outcome)
		require.LessOrEqual(t, w.Calls()-before, int64(2), "the line is asked once, and not again and again")
	})
}

// An order that is cancelled after its sale's line has gone has nothing to be released to.
func TestAnOrderCancelledAfterItsLineHasGoneIsReleased(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := w.Confirm("ann", 1)
		long := time.Now().Add(-30 * 24 * time.Hour).UnixMilli()
		w.Exec("UPDATE sales SET starts_at = 1, ends_at = ?, updated_at = ? WHERE id = ?", long, long, orders.Sale)
		keys, err := w.Redis.Keys(w.Ctx, orders.Key("*")).Result()
		require.NoError(t, err)
		require.NoError(t, w.Redis.Del(w.Ctx, keys...).Err())
		require.NoError(t, w.Cancel(ticket.ID, "ann"))
		require.Equal(t, 1, w.Rows()[ticket.ID].Released)

		w.Exec("UPDATE orders SET released = 0 WHERE id = ?", ticket.ID) // Redis was away just then
		require.NoError(t, w.Reconciler.Reconcile(w.Ctx))
		require.Equal(t, 1, w.Rows()[ticket.ID].Released, "though nobody keeps the sale any more")
		require.Equal(t, audit.Clean, verdict(w))
	})
}

// verdict is that of an audit of the sale.
func verdict(w *orders.World) audit.Verdict {
	w.T.Helper()
	result, err := w.Auditor.Run(w.Ctx, orders.Sale)
	require.NoError(w.T, err)
	return result.Verdict
}
