package payment_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/order/payment"
	"sluice/queue"
)

// Why money must go back is kept with the order, and its owner sees that it must, wherever the order is read from.
func TestRefundsAreShown(t *testing.T) {
	orders.EachUnpaid(t, 1, 1, func(w *orders.World) {
		expired := w.Expire("ann", 1)
		ended := w.Confirm("bob", 1)
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, ended.ID, "bob"))
		amount := w.Confirm("cid", 1)
		for id, p := range map[string]payment.Payment{expired.ID: orders.Pays(expired.ID, 1),
			ended.ID:  orders.Pays(ended.ID, 1),
			amount.ID: {ID: "less", AmountCents: 1, Currency: "CNY"}} {
			require.False(w.T, w.Look(id).Refund)
			paying, err := w.Pay(id, p)
			require.NoError(w.T, err)
			require.True(w.T, paying.Refund())
			require.True(w.T, paying.Order.Refund)
			require.True(w.T, w.Look(id).Refund)
		}
		_, err := w.Pay(amount.ID, orders.Pays(amount.ID, 1))
		require.NoError(w.T, err)
		_, err = w.Pay(amount.ID, payment.Payment{ID: "again", AmountCents: 9900, Currency: "CNY"})
		require.NoError(w.T, err)
		require.Equal(w.T, queue.Paid, w.Ticket(amount.ID).State)

		why := map[string]string{expired.ID: order.RefundLate, ended.ID: order.RefundEnded,
			amount.ID: order.RefundAmount}
		for id, want := range why {
			require.Equal(w.T, want, w.Rows()[id].Refund, "the first stands")
			require.True(w.T, w.Look(id).Refund, "it outlives a change of state")
		}
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		for id := range why {
			require.True(w.T, w.Look(id).Refund, "and a rebuild")
		}
		w.Clean()
	})
}

func TestSecondPaymentIsARefund(t *testing.T) {
	orders.EachUnpaid(t, 1, 1, func(w *orders.World) {
		one := w.Confirm("ann", 1)
		for _, id := range []string{"a", "b"} {
			_, err := w.Pay(one.ID, payment.Payment{ID: id, AmountCents: 9900, Currency: "CNY"})
			require.NoError(w.T, err)
			require.Equal(w.T, id == "b", w.Look(one.ID).Refund)
		}
		require.Equal(w.T, order.RefundAgain, w.Rows()[one.ID].Refund)
	})
}

// A wrong amount leaves its mark through the expiry and a late payment.
func TestRefundOutlivesALatePayment(t *testing.T) {
	orders.EachUnpaid(t, 1, 1, func(w *orders.World) {
		one := w.Confirm("ann", 1)
		_, err := w.Pay(one.ID, payment.Payment{ID: "less", AmountCents: 1, Currency: "CNY"})
		require.NoError(w.T, err)
		w.PassDeadline(one.ID)
		require.NoError(w.T, w.Expirer.Expire(w.Ctx))
		require.True(w.T, w.Look(one.ID).Refund)
		late, err := w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.NoError(w.T, err)
		require.Equal(w.T, order.PaymentLate, late.Outcome)
		require.Equal(w.T, order.Paid, w.Look(one.ID).Status)
		require.True(w.T, w.Ticket(one.ID).Refund)
		w.Clean()
	})
}
