package payment_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/order/payment"
	"sluice/queue"
)

func TestPayInTime(t *testing.T) {
	orders.EachUnpaid(t, 5, 2, func(w *orders.World) {
		one := w.Confirm("ann", 2)
		row := w.Rows()[one.ID]
		require.InDelta(w.T, time.Now().Add(time.Hour).UnixMilli(), row.PayBy, 60_000)
		require.Equal(w.T, row.PayBy, w.Ticket(one.ID).PayBy.UnixMilli(), "the line says what the row says")
		require.EqualValues(w.T, 1, w.Unpaid())

		for _, repeated := range []bool{false, true} {
			paid, err := w.Pay(one.ID, orders.Pays(one.ID, 2))
			require.NoError(w.T, err)
			require.Equal(w.T, order.PaymentAccepted, paid.Outcome)
			require.Equal(w.T, order.Paid, paid.Order.Status)
			require.Equal(w.T, repeated, paid.Repeated)
		}
		require.Zero(w.T, w.Unpaid())
		t := w.Ticket(one.ID)
		require.Equal(w.T, queue.Paid, t.State)
		require.Equal(w.T, w.Rows()[one.ID].PaidAt, t.PaidAt.UnixMilli())
		require.Equal(w.T, w.Rows()[one.ID].ConfirmedAt, t.At.UnixMilli())
		require.ErrorIs(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, one.ID, "ann"), order.ErrNotCancellable)

		again, err := w.Pay(one.ID, payment.Payment{ID: "another", AmountCents: 19800, Currency: "CNY"})
		require.NoError(w.T, err)
		require.Equal(w.T, order.PaymentRefund, again.Outcome)
		require.Equal(w.T, order.Paid, again.Order.Status, "the first payment stands")
		require.Equal(w.T, map[string]int{"order.confirmed stream": 1, "order.confirmed email": 1,
			"order.paid stream": 1, "order.paid email": 1,
			"order.refund_required stream": 1, "order.refund_required email": 1}, w.News())
		w.Clean()
	})
}

func TestPayRefusals(t *testing.T) {
	orders.EachUnpaid(t, 5, 1, func(w *orders.World) {
		one, two := w.Confirm("ann", 1), w.Confirm("bob", 1)
		waiting := w.Admit("cid", 1)
		_, err := w.Pay("missing", orders.Pays("missing", 1))
		require.ErrorIs(w.T, err, order.ErrNotFound)
		_, err = w.Payer.Pay(w.Ctx, "elsewhere", one.ID, orders.Pays(one.ID, 1))
		require.ErrorIs(w.T, err, order.ErrNotFound)
		_, err = w.Pay(waiting.ID, orders.Pays(waiting.ID, 1))
		require.ErrorIs(w.T, err, payment.ErrUnconfirmed)

		for range 2 { // the answer stays, and so does the order
			less, err := w.Pay(one.ID, payment.Payment{ID: "less", AmountCents: 9899, Currency: "CNY"})
			require.NoError(w.T, err)
			require.Equal(w.T, order.PaymentMismatch, less.Outcome)
			require.True(w.T, less.Refund())
		}
		dollars, err := w.Pay(one.ID, payment.Payment{ID: "dollars", AmountCents: 9900, Currency: "USD"})
		require.NoError(w.T, err)
		require.Equal(w.T, order.PaymentMismatch, dollars.Outcome)
		require.Equal(w.T, 1, w.News()["order.refund_required stream"], "no money is taken in silence")
		_, err = w.Pay(one.ID, payment.Payment{ID: "less", AmountCents: 9900, Currency: "CNY"})
		require.ErrorIs(w.T, err, payment.ErrConflict, "another amount under the same id")
		require.Equal(w.T, order.Confirmed, w.Rows()[one.ID].Status)

		_, err = w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.NoError(w.T, err)
		_, err = w.Pay(two.ID, orders.Pays(one.ID, 1))
		require.ErrorIs(w.T, err, payment.ErrConflict)
		require.Equal(w.T, order.Confirmed, w.Rows()[two.ID].Status)

		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, two.ID, "bob"))
		cancelled, err := w.Pay(two.ID, orders.Pays(two.ID, 1))
		require.NoError(w.T, err)
		require.Equal(w.T, order.PaymentRefund, cancelled.Outcome)
		require.Equal(w.T, order.Cancelled, cancelled.Order.Status)
		w.Clean()
	})
}

// One payment sent to many at once has one effect; two orders cannot share it.
func TestPaymentsAtOnce(t *testing.T) {
	orders.EachUnpaid(t, 4, 1, func(w *orders.World) {
		one, two := w.Confirm("ann", 1), w.Confirm("bob", 1)
		shared := payment.Payment{ID: "shared", AmountCents: 9900, Currency: "CNY"}
		var first, conflicts atomic.Int64
		var group sync.WaitGroup
		for i := range 8 {
			id := []string{one.ID, two.ID}[i%2]
			group.Go(func() {
				paid, err := w.Pay(id, shared)
				switch {
				case errors.Is(err, payment.ErrConflict):
					conflicts.Add(1)
				case err != nil:
					w.T.Errorf("pay %s: %v", id, err)
				case !paid.Repeated:
					first.Add(1)
				}
			})
		}
		group.Wait()
		require.EqualValues(w.T, 1, first.Load())
		require.EqualValues(w.T, 4, conflicts.Load())
		require.Equal(w.T, map[string]int{order.Paid: 1, order.Confirmed: 1}, w.Count())
		w.Clean()
	})
}

// TestPayExpireCancelRace lets all three go for the same orders: one wins, and
// the units are where it says.
func TestPayExpireCancelRace(t *testing.T) {
	const many = 12
	orders.EachUnpaid(t, many, 1, func(w *orders.World) {
		w.AdmitMany(many)
		w.Work()
		w.Exec("UPDATE orders SET pay_by = 1")
		var ids []string
		for id := range w.Rows() {
			ids = append(ids, id)
			w.PassDeadline(id)
		}
		var group sync.WaitGroup
		results := make([]payment.Result, len(ids))
		begin := make(chan struct{})
		for range 2 {
			group.Go(func() { <-begin; require.NoError(w.T, w.Expirer.Expire(w.Ctx)) })
		}
		for i, id := range ids {
			group.Go(func() {
				<-begin
				paid, err := w.Pay(id, orders.Pays(id, 1))
				for errors.Is(err, order.ErrBusy) || errors.Is(err, queue.ErrNotReady) {
					paid, err = w.Pay(id, orders.Pays(id, 1))
				}
				if err != nil {
					w.T.Errorf("pay %s: %v", id, err)
				}
				results[i] = paid
			})
			group.Go(func() {
				<-begin
				if err := w.Canceller.Cancel(w.Ctx, orders.Sale, id,
					fmt.Sprintf("user-%s", id[len("order-"):])); err != nil &&
					!errors.Is(err, order.ErrNotCancellable) {
					w.T.Errorf("cancel %s: %v", id, err)
				}
			})
		}
		close(begin)
		group.Wait()
		require.NoError(w.T, w.Expirer.Expire(w.Ctx))
		require.NoError(w.T, w.Reconciler.Reconcile(w.Ctx))
		rows, live := w.Rows(), int64(0)
		for i, id := range ids {
			paid := rows[id].Status == order.Paid
			require.Equal(w.T, paid, results[i].Outcome != order.PaymentRefund, "%s is %s, its payment was answered %s",
				id, rows[id].Status, results[i].Outcome)
			if paid {
				live++
			}
		}
		require.NotContains(w.T, w.Count(), order.Confirmed)
		require.Equal(w.T, many-live, w.Available())
		require.Equal(w.T, w.Available(), w.View().Stock)
		w.Clean()
	})
}
