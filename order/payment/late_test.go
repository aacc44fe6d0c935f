package payment_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/queue"
)

func TestOverdueButNotExpiredIsPaid(t *testing.T) {
	orders.EachUnpaid(t, 1, 1, func(w *orders.World) {
		one := w.Confirm("ann", 1)
		w.PassDeadline(one.ID)
		paid, err := w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.NoError(w.T, err)
		require.Equal(w.T, order.PaymentLate, paid.Outcome)
		require.NoError(w.T, w.Expirer.Expire(w.Ctx))
		require.Equal(w.T, map[string]int{order.Paid: 1}, w.Count())
		w.Clean()
	})
}

func TestLatePaymentTakesTheUnitsAgain(t *testing.T) {
	orders.EachUnpaid(t, 3, 3, func(w *orders.World) {
		other := w.Confirm("ann", 1)
		one := w.Expire("ann", 2)
		paid, err := w.Pay(one.ID, orders.Pays(one.ID, 2))
		require.NoError(w.T, err)
		require.Equal(w.T, order.PaymentLate, paid.Outcome)
		require.Equal(w.T, order.Paid, paid.Order.Status)
		row := w.Rows()[one.ID]
		require.Equal(w.T, 2, *row.Slot, "the other order has the first")
		require.Zero(w.T, row.EndedAt)
		require.Equal(w.T, queue.Paid, w.Ticket(one.ID).State)
		require.Zero(w.T, w.Available())
		require.Zero(w.T, w.View().Stock)
		require.False(w.T, w.View().InFlight())
		var changes int64
		stock := w.DB.Read.Table("stock").Where("sale_id = ?", orders.Sale)
		require.NoError(w.T, stock.Select("changes").Scan(&changes).Error)
		require.Equal(w.T, changes, w.View().Ledger, "should the database forget it, that is noticed")
		require.ErrorIs(w.T, w.Try(orders.Sale, w.Request("bob", 1)).Err, queue.ErrSoldOut)
		require.ErrorAs(w.T, w.Try(orders.Sale, w.Request("ann", 1)).Err, &queue.LimitError{})
		again, err := w.Pay(one.ID, orders.Pays(one.ID, 2))
		require.NoError(w.T, err)
		require.True(w.T, again.Repeated)
		require.Equal(w.T, order.PaymentLate, again.Outcome)

		// Whoever comes late to bring the expiry into the line changes nothing.
		require.NoError(w.T, w.Line.Release(w.Ctx, []queue.Ended{{ID: one.ID, State: queue.Expired}}, 0))
		require.Equal(w.T, queue.Paid, w.Ticket(one.ID).State)
		w.Clean()
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		require.Equal(w.T, queue.Paid, w.Ticket(one.ID).State)
		require.Equal(w.T, queue.Confirmed, w.Ticket(other.ID).State)
		require.EqualValues(w.T, 1, w.Unpaid())
		w.Clean()
	})
}

// An expiry that has reached the ledger only is brought into the line first.
func TestLatePaymentBeforeTheLineKnows(t *testing.T) {
	orders.EachUnpaid(t, 1, 1, func(w *orders.World) {
		one := w.Confirm("ann", 1)
		w.PassDeadline(one.ID)
		w.Exec("UPDATE orders SET status = 'expired', slot = NULL, released = 0, ended_at = 5 WHERE id = ?", one.ID)
		w.Exec("UPDATE stock SET available = available + 1")
		paid, err := w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.NoError(w.T, err)
		require.Equal(w.T, order.Paid, paid.Order.Status)
		require.NoError(w.T, w.Reconciler.Reconcile(w.Ctx))
		require.Equal(w.T, queue.Paid, w.Ticket(one.ID).State)
		require.Zero(w.T, w.View().Stock)
		w.Clean()
	})
}

func TestLatePaymentWithNothingLeft(t *testing.T) {
	orders.EachUnpaid(t, 2, 1, func(w *orders.World) {
		one := w.Expire("ann", 1)
		w.Confirm("bob", 1)
		w.Confirm("cid", 1)
		late, err := w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.NoError(w.T, err)
		require.Equal(w.T, order.PaymentRefund, late.Outcome)
		require.Equal(w.T, order.Expired, late.Order.Status)
		require.Equal(w.T, 1, w.News()["order.refund_required stream"])
		require.Zero(w.T, w.News()["order.paid stream"])
		w.Clean()
	})
}

// A worker died after its transaction, a rebuild left its ticket in the line, and the order expired. Until that ticket
// has been taken off, the order is not brought back: it would stand in the line twice.
func TestLatePaymentOfATicketThatIsStillListed(t *testing.T) {
	for _, place := range []string{"suspect", "leased", "retry"} {
		t.Run(place, func(t *testing.T) {
			orders.EachUnpaid(t, 1, 1, func(w *orders.World) {
				one := w.Admit("ann", 1)
				_, err := w.Fulfiller.Handle(w.Ctx, w.Claim(1))
				require.NoError(w.T, err)
				require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
				w.Exec("UPDATE orders SET status = 'expired', slot = NULL, released = 0, ended_at = 5 WHERE id = ?",
					one.ID)
				w.Exec("UPDATE stock SET available = available + 1")
				w.CatchUp()
				require.Equal(w.T, queue.Expired, w.Ticket(one.ID).State)
				var held queue.Batch
				if place != "suspect" {
					held = w.Claim(1)
				}
				if place == "retry" {
					require.NoError(w.T, w.Line.Settle(w.Ctx, held, []queue.Outcome{{ID: one.ID, Op: queue.OpRetry,
						Delay: time.Hour}}))
				}
				_, err = w.Pay(one.ID, orders.Pays(one.ID, 1))
				require.ErrorIs(w.T, err, order.ErrBusy)
				require.Zero(w.T, w.View().Bounded)
				w.Clean()
				require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
				w.Work()
				late, err := w.Pay(one.ID, orders.Pays(one.ID, 1))
				require.NoError(w.T, err, "sent again")
				require.Equal(w.T, order.PaymentLate, late.Outcome)
				require.Zero(w.T, w.View().Bounded)
				w.Clean()
			})
		})
	}
}

// A ticket may stand in the line twice all the same, in data of an older build: both entries are counted, and the cap
// stays exact.
func TestARebuildCountsATicketThatIsListedTwice(t *testing.T) {
	orders.EachUnpaid(t, 2, 1, func(w *orders.World) {
		w.Admit("ann", 1)
		one := w.Admit("bob", 1)
		require.NoError(w.T, w.Redis.LPush(w.Ctx, orders.Key("suspect"), one.ID).Err())
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		require.EqualValues(w.T, 2, w.View().Bounded)
		for w.View().InFlight() {
			w.Work()
		}
		require.Zero(w.T, w.View().Bounded)
		w.Clean()
	})
}

// Who has bought again meanwhile holds the limit: the late payment goes back.
func TestLatePaymentOverTheLimit(t *testing.T) {
	orders.EachUnpaid(t, 5, 1, func(w *orders.World) {
		one := w.Expire("ann", 1)
		w.Confirm("ann", 1)
		late, err := w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.NoError(w.T, err)
		require.Equal(w.T, order.PaymentRefund, late.Outcome)

		// Redis may have forgotten the other order: the ledger has not.
		two := w.Expire("bob", 1)
		w.Confirm("bob", 1)
		require.NoError(w.T, w.Redis.HDel(w.Ctx, orders.Key("holders"), "bob").Err())
		late, err = w.Pay(two.ID, orders.Pays(two.ID, 1))
		require.NoError(w.T, err)
		require.Equal(w.T, order.PaymentRefund, late.Outcome)
		require.Equal(w.T, queue.Expired, w.Ticket(two.ID).State)
		require.EqualValues(w.T, 3, w.View().Stock)
		require.False(w.T, w.View().InFlight())
		w.Clean()
	})
}

// With a limit above one the slot may be free although the user holds all it may.
func TestLatePaymentOverTheLimitThatRedisForgot(t *testing.T) {
	orders.EachUnpaid(t, 9, 3, func(w *orders.World) {
		one := w.Expire("ann", 2)
		w.Confirm("ann", 2)
		require.NoError(w.T, w.Redis.HSet(w.Ctx, orders.Key("holders"), "ann", "unheard-of:1:1").Err())
		late, err := w.Pay(one.ID, orders.Pays(one.ID, 2))
		require.NoError(w.T, err)
		require.Equal(w.T, order.PaymentRefund, late.Outcome)
		require.Equal(w.T, order.Expired, w.Rows()[one.ID].Status)
		w.Clean()
	})
}
