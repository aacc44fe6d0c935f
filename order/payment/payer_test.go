package order_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/order"
	"sluice/queue"
)

// pays is the payment of an order of so many units.
func pays(id string, units int) order.Payment {
	return order.Payment{ID: "pay-" + id, AmountCents: 9900 * int64(units), Currency: "CNY"}
}

func (w *world) pay(id string, p order.Payment) (order.Paying, error) {
	return w.payer.Pay(w.ctx, theSale, id, p)
}

// confirm makes an order of one user.
func (w *world) confirm(user string, units int) queue.Ticket {
	w.t.Helper()
	t := w.admit(user, units)
	w.work()
	require.Equal(w.t, order.Confirmed, w.rows()[t.ID].Status)
	return t
}

// pass lets the deadline of an order lie in the past, in both stores.
func (w *world) pass(id string) {
	w.t.Helper()
	w.exec("UPDATE orders SET pay_by = 1 WHERE id = ?", id)
	require.NoError(w.t, w.rdb.ZAddXX(w.ctx, dueKey, redis.Z{Score: 1, Member: id}).Err())
}

const dueKey = "sluice:{" + theSale + "/0}:due"

func (w *world) ticket(id string) queue.Ticket {
	w.t.Helper()
	tickets, _, err := w.line.Lookup(w.ctx, []string{id})
	require.NoError(w.t, err)
	return tickets[id]
}

func (w *world) unpaid() int64 {
	w.t.Helper()
	n, err := w.line.Unpaid(w.ctx)
	require.NoError(w.t, err)
	return n
}

func TestPayInTime(t *testing.T) {
	eachUnpaid(t, 5, 2, func(w *world) {
		one := w.confirm("ann", 2)
		row := w.rows()[one.ID]
		require.InDelta(w.t, time.Now().Add(time.Hour).UnixMilli(), row.PayBy, 60_000)
		require.Equal(w.t, row.PayBy, w.ticket(one.ID).PayBy.UnixMilli(), "the line says what the row says")
		require.EqualValues(w.t, 1, w.unpaid())

		for _, repeated := range []bool{false, true} {
			paid, err := w.pay(one.ID, pays(one.ID, 2))
			require.NoError(w.t, err)
			require.Equal(w.t, order.PaymentAccepted, paid.Outcome)
			require.Equal(w.t, order.Paid, paid.Order.Status)
			require.Equal(w.t, repeated, paid.Repeated)
		}
		require.Zero(w.t, w.unpaid())
		t := w.ticket(one.ID)
		require.Equal(w.t, queue.Paid, t.State)
		require.Equal(w.t, w.rows()[one.ID].PaidAt, t.PaidAt.UnixMilli())
		require.Equal(w.t, w.rows()[one.ID].ConfirmedAt, t.At.UnixMilli())
		require.ErrorIs(w.t, w.canceller.Cancel(w.ctx, theSale, one.ID, "ann"), order.ErrNotCancellable)

		again, err := w.pay(one.ID, order.Payment{ID: "another", AmountCents: 19800, Currency: "CNY"})
		require.NoError(w.t, err)
		require.Equal(w.t, order.PaymentRefund, again.Outcome)
		require.Equal(w.t, order.Paid, again.Order.Status, "the first payment stands")
		require.Equal(w.t, map[string]int{"order.confirmed stream": 1, "order.confirmed email": 1,
			"order.paid stream": 1, "order.paid email": 1,
			"order.refund_required stream": 1, "order.refund_required email": 1}, w.news())
		w.clean()
	})
}

func TestPayRefusals(t *testing.T) {
	eachUnpaid(t, 5, 1, func(w *world) {
		one, two := w.confirm("ann", 1), w.confirm("bob", 1)
		waiting := w.admit("cid", 1)
		_, err := w.pay("missing", pays("missing", 1))
		require.ErrorIs(w.t, err, order.ErrNotFound)
		_, err = w.payer.Pay(w.ctx, "elsewhere", one.ID, pays(one.ID, 1))
		require.ErrorIs(w.t, err, order.ErrNotFound)
		_, err = w.pay(waiting.ID, pays(waiting.ID, 1))
		require.ErrorIs(w.t, err, order.ErrUnconfirmed)

		for range 2 { // the answer stays, and so does the order
			less, err := w.pay(one.ID, order.Payment{ID: "less", AmountCents: 9899, Currency: "CNY"})
			require.NoError(w.t, err)
			require.Equal(w.t, order.PaymentMismatch, less.Outcome)
			require.True(w.t, less.Refund())
		}
		dollars, err := w.pay(one.ID, order.Payment{ID: "dollars", AmountCents: 9900, Currency: "USD"})
		require.NoError(w.t, err)
		require.Equal(w.t, order.PaymentMismatch, dollars.Outcome)
		require.Equal(w.t, 1, w.news()["order.refund_required stream"], "no money is taken in silence")
		_, err = w.pay(one.ID, order.Payment{ID: "less", AmountCents: 9900, Currency: "CNY"})
		require.ErrorIs(w.t, err, order.ErrPaymentConflict, "another amount under the same id")
		require.Equal(w.t, order.Confirmed, w.rows()[one.ID].Status)

		_, err = w.pay(one.ID, pays(one.ID, 1))
		require.NoError(w.t, err)
		_, err = w.pay(two.ID, pays(one.ID, 1))
		require.ErrorIs(w.t, err, order.ErrPaymentConflict)
		require.Equal(w.t, order.Confirmed, w.rows()[two.ID].Status)

		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, two.ID, "bob"))
		cancelled, err := w.pay(two.ID, pays(two.ID, 1))
		require.NoError(w.t, err)
		require.Equal(w.t, order.PaymentRefund, cancelled.Outcome)
		require.Equal(w.t, order.Cancelled, cancelled.Order.Status)
		w.clean()
	})
}

// One payment sent to many at once has one effect; two orders cannot share it.
func TestPaymentsAtOnce(t *testing.T) {
	eachUnpaid(t, 4, 1, func(w *world) {
		one, two := w.confirm("ann", 1), w.confirm("bob", 1)
		shared := order.Payment{ID: "shared", AmountCents: 9900, Currency: "CNY"}
		var first, conflicts atomic.Int64
		var group sync.WaitGroup
		for i := range 8 {
			id := []string{one.ID, two.ID}[i%2]
			group.Go(func() {
				paid, err := w.pay(id, shared)
				switch {
				case errors.Is(err, order.ErrPaymentConflict):
					conflicts.Add(1)
				case err != nil:
					w.t.Errorf("pay %s: %v", id, err)
				case !paid.Repeated:
					first.Add(1)
				}
			})
		}
		group.Wait()
		require.EqualValues(w.t, 1, first.Load())
		require.EqualValues(w.t, 4, conflicts.Load())
		require.Equal(w.t, map[string]int{order.Paid: 1, order.Confirmed: 1}, w.count())
		w.clean()
	})
}

// TestPayExpireCancelRace lets all three go for the same orders: one wins, and
// the units are where it says.
func TestPayExpireCancelRace(t *testing.T) {
	const orders = 12
	eachUnpaid(t, orders, 1, func(w *world) {
		w.admitMany(orders)
		w.work()
		w.exec("UPDATE orders SET pay_by = 1")
		var ids []string
		for id := range w.rows() {
			ids = append(ids, id)
			w.pass(id)
		}
		var group sync.WaitGroup
		results := make([]order.Paying, len(ids))
		begin := make(chan struct{})
		for range 2 {
			group.Go(func() { <-begin; require.NoError(w.t, w.expirer.Expire(w.ctx)) })
		}
		for i, id := range ids {
			group.Go(func() {
				<-begin
				paid, err := w.pay(id, pays(id, 1))
				for errors.Is(err, order.ErrBusy) || errors.Is(err, queue.ErrNotReady) {
					paid, err = w.pay(id, pays(id, 1))
				}
				if err != nil {
					w.t.Errorf("pay %s: %v", id, err)
				}
				results[i] = paid
			})
			group.Go(func() {
				<-begin
				if err := w.canceller.Cancel(w.ctx, theSale, id,
					fmt.Sprintf("user-%s", id[len("order-"):])); err != nil &&
					!errors.Is(err, order.ErrNotCancellable) {
					w.t.Errorf("cancel %s: %v", id, err)
				}
			})
		}
		close(begin)
		group.Wait()
		require.NoError(w.t, w.expirer.Expire(w.ctx))
		require.NoError(w.t, w.reconciler.Reconcile(w.ctx))
		rows, live := w.rows(), int64(0)
		for i, id := range ids {
			paid := rows[id].Status == order.Paid
			require.Equal(w.t, paid, results[i].Outcome != order.PaymentRefund, "%s is %s, its payment was told %s",
				id, rows[id].Status, results[i].Outcome)
			if paid {
				live++
			}
		}
		require.NotContains(w.t, w.count(), order.Confirmed)
		require.Equal(w.t, orders-live, w.available())
		require.Equal(w.t, w.available(), w.view().Stock)
		w.clean()
	})
}
