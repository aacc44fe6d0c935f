package order_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/order"
	"sluice/queue"
)

// look is the order as its owner sees it now, from the line.
func (w *world) look(id string) order.View {
	w.t.Helper()
	views, err := w.finder.Many(w.ctx, theSale, []string{id})
	require.NoError(w.t, err)
	return views[id]
}

// Why money must go back is kept with the order, and its owner sees that it must, wherever the order is read from.
func TestRefundsAreShown(t *testing.T) {
	eachUnpaid(t, 1, 1, func(w *world) {
		expired := w.expired("ann", 1)
		ended := w.confirm("bob", 1)
		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, ended.ID, "bob"))
		amount := w.confirm("cid", 1)
		for id, p := range map[string]order.Payment{expired.ID: pays(expired.ID, 1), ended.ID: pays(ended.ID, 1),
			amount.ID: {ID: "less", AmountCents: 1, Currency: "CNY"}} {
			require.False(w.t, w.look(id).Refund)
			paying, err := w.pay(id, p)
			require.NoError(w.t, err)
			require.True(w.t, paying.Refund())
			require.True(w.t, paying.Order.Refund)
			require.True(w.t, w.look(id).Refund)
		}
		_, err := w.pay(amount.ID, pays(amount.ID, 1))
		require.NoError(w.t, err)
		_, err = w.pay(amount.ID, order.Payment{ID: "again", AmountCents: 9900, Currency: "CNY"})
		require.NoError(w.t, err)
		require.Equal(w.t, queue.Paid, w.ticket(amount.ID).State)

		why := map[string]string{expired.ID: order.RefundLate, ended.ID: order.RefundEnded,
			amount.ID: order.RefundAmount}
		for id, want := range why {
			require.Equal(w.t, want, w.rows()[id].Refund, "the first stands")
			require.True(w.t, w.look(id).Refund, "it outlives a change of state")
		}
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
		for id := range why {
			require.True(w.t, w.look(id).Refund, "and a rebuild")
		}
		w.clean()
	})
}

func TestSecondPaymentIsARefund(t *testing.T) {
	eachUnpaid(t, 1, 1, func(w *world) {
		one := w.confirm("ann", 1)
		for _, id := range []string{"a", "b"} {
			_, err := w.pay(one.ID, order.Payment{ID: id, AmountCents: 9900, Currency: "CNY"})
			require.NoError(w.t, err)
			require.Equal(w.t, id == "b", w.look(one.ID).Refund)
		}
		require.Equal(w.t, order.RefundAgain, w.rows()[one.ID].Refund)
	})
}

// A wrong amount leaves its mark through the expiry and a late payment.
func TestRefundOutlivesALatePayment(t *testing.T) {
	eachUnpaid(t, 1, 1, func(w *world) {
		one := w.confirm("ann", 1)
		_, err := w.pay(one.ID, order.Payment{ID: "less", AmountCents: 1, Currency: "CNY"})
		require.NoError(w.t, err)
		w.pass(one.ID)
		require.NoError(w.t, w.expirer.Expire(w.ctx))
		require.True(w.t, w.look(one.ID).Refund)
		late, err := w.pay(one.ID, pays(one.ID, 1))
		require.NoError(w.t, err)
		require.Equal(w.t, order.PaymentLate, late.Outcome)
		require.Equal(w.t, order.Paid, w.look(one.ID).Status)
		require.True(w.t, w.ticket(one.ID).Refund)
		w.clean()
	})
}
