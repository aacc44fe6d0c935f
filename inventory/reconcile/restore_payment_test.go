package reconcile_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/queue"
)

// An order that was paid late is paid, though the database knows of its expiry alone.
func TestALatePaymentThatTheDatabaseLost(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		restorer(w)
		w.Open(2, 1)
		paid := w.Admit("ann", 1)
		w.WorkOff(1)
		w.Exec("UPDATE orders SET status = 'expired', slot = NULL, ended_at = 5, released = 1 WHERE id = ?", paid.ID)
		w.Exec("UPDATE stock SET available = available + 1, changes = changes + 1 WHERE sale_id = ?", orders.Sale)
		require.NoError(w.T, w.Line.Release(w.Ctx, []queue.Ended{{ID: paid.ID, State: queue.Expired}}, 2))
		before := copyLedger(w)
		revived, err := w.Line.ReclaimUnit(w.Ctx, w.View().Epoch, "late", orders.Lease, paid)
		require.NoError(w.T, err)
		w.Exec("UPDATE orders SET status = 'paid', slot = 1, ended_at = 0, late_seq = ? WHERE id = ?", revived.Mark,
			paid.ID)
		w.Exec("UPDATE stock SET available = available - 1, changes = changes + 1 WHERE sale_id = ?", orders.Sale)
		require.NoError(w.T, w.Line.Settle(w.Ctx, revived.Batch,
			[]queue.Outcome{{ID: paid.ID, Op: queue.OpPaid, Pay: time.Now(), Ledger: 3}}))
		w.Clean()

		lose(w, before)
		w.CatchUp()
		require.Equal(w.T, order.Paid, statuses(w)[paid.ID])
		r := w.Clean()
		require.EqualValues(w.T, []int64{1, 1, 1}, []int64{r.Live, r.LineStock, r.Restored})
	})
}

// That a payment must go back is not forgotten with the payment.
func TestARefundThatTheDatabaseLostIsStillDue(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		restorer(w)
		w.Open(4, 1)
		cancelled, kept := w.Admit("ann", 1), w.Admit("bob", 1)
		w.WorkOff(1)
		before := copyLedger(w)
		w.WorkOff(1)
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, cancelled.ID, "ann"))
		for _, id := range []string{cancelled.ID, kept.ID} {
			w.Exec("UPDATE orders SET refund = ? WHERE id = ?", order.RefundAmount, id)
			require.NoError(w.T, w.Line.Refund(w.Ctx, id))
		}
		lose(w, before)
		w.CatchUp()
		for id, why := range map[string]string{cancelled.ID: order.RefundEnded, kept.ID: order.RefundAmount} {
			var row order.Row
			require.NoError(w.T, w.DB.Write.Take(&row, "id = ?", id).Error)
			require.Equal(w.T, why, row.Refund)
			known, _, err := w.Line.Lookup(w.Ctx, []string{id})
			require.NoError(w.T, err)
			require.True(w.T, known[id].Refund)
			var news int64
			require.NoError(w.T, w.DB.Read.Table("outbox").Where("order_id = ? AND event = 'order.refund_required'",
				id).Count(&news).Error)
			require.EqualValues(w.T, 1, news)
		}
		w.Clean()
	})
}
