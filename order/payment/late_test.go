package payment_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
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

// A payer that dies with the units leaves a lease. A worker settles by what the database says, and the audit is clean
// at every step.
func TestLatePayerDies(t *testing.T) {
	orders.EachUnpaid(t, 2, 1, func(w *orders.World) {
		one := w.Expire("ann", 1)
		sale, _, err := w.Sales.Get(w.Ctx, orders.Sale)
		require.NoError(w.T, err)
		reclaim := func() queue.ReclaimedUnit {
			row := w.Rows()[one.ID]
			r, err := w.Line.ReclaimUnit(w.Ctx, sale.Epoch, "late-"+time.Now().String(), orders.Lease,
				queue.Ticket{ID: row.ID, User: row.UserID, Units: row.Quantity, Seq: row.Seq,
					AdmittedAt: time.UnixMilli(row.AdmittedAt), Fingerprint: row.Fingerprint, Position: row.Position,
					ETASeconds: row.ETASeconds})
			require.NoError(w.T, err)
			w.Clean()
			return r
		}
		dead := reclaim()
		require.EqualValues(w.T, 1, w.View().Stock)
		_, err = w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.ErrorIs(w.T, err, order.ErrBusy)
		require.ErrorIs(w.T, w.Line.Cancel(w.Ctx, one.ID, "ann"), queue.ErrBusy)
		w.EndLease(dead.Batch)
		w.Clean()
		w.Work()
		require.Equal(w.T, queue.Expired, w.Ticket(one.ID).State)
		require.EqualValues(w.T, 2, w.View().Stock)
		w.Clean()

		dead = reclaim()
		w.Exec("UPDATE orders SET status = 'paid', slot = 1, paid_at = 9, ended_at = 0, released = 1, late_seq = ? "+
			"WHERE id = ?", dead.Mark, one.ID)
		w.Exec("UPDATE stock SET available = available - 1")
		w.Clean()
		w.EndLease(dead.Batch)
		w.Clean()
		w.Work()
		require.Equal(w.T, queue.Paid, w.Ticket(one.ID).State)
		require.EqualValues(w.T, 1, w.View().Stock)
		require.False(w.T, w.View().InFlight())
		w.Clean()
	})
}

// afterReclaim calls do once, when a late payer has taken the units in the line.
type afterReclaim struct{ do func() }

func (h *afterReclaim) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *afterReclaim) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *afterReclaim) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if c, ok := cmd.(*redis.Cmd); ok && h.do != nil {
			if reply, ok := c.Val().([]any); ok && len(reply) == 4 && reply[0] == "A" {
				do := h.do
				h.do = nil
				do()
			}
		}
		return err
	}
}

// A payer that stands still for longer than its lease takes nothing. By then a worker has given the units back, and
// another shopper may have them.
func TestLatePayerOutlivesItsLease(t *testing.T) {
	orders.EachUnpaid(t, 1, 1, func(w *orders.World) {
		one := w.Expire("ann", 1)
		w.Redis.AddHook(&afterReclaim{do: func() {
			batches, err := w.Redis.ZRange(w.Ctx, orders.Key("lease"), 0, -1).Result()
			require.NoError(w.T, err)
			require.Len(w.T, batches, 1)
			w.EndLease(queue.Batch{ID: batches[0], Tickets: []queue.Ticket{one}})
			w.Work()
		}})
		_, err := w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.ErrorIs(w.T, err, order.ErrBusy)
		require.Equal(w.T, order.Expired, w.Rows()[one.ID].Status)
		require.Equal(w.T, queue.Expired, w.Ticket(one.ID).State)
		require.EqualValues(w.T, 1, w.Available())
		require.EqualValues(w.T, 1, w.View().Stock)
		w.Clean()

		late, err := w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.NoError(w.T, err, "sent again")
		require.Equal(w.T, order.PaymentLate, late.Outcome)
		require.ErrorIs(w.T, w.Try(orders.Sale, w.Request("bob", 1)).Err, queue.ErrSoldOut)
		w.Clean()
	})
}

// A line that is loaded anew between the payer's two steps takes the units from it. The provider has to come again,
// and then they are there.
func TestLatePayerMeetsARebuild(t *testing.T) {
	orders.EachUnpaid(t, 1, 1, func(w *orders.World) {
		one := w.Expire("ann", 1)
		w.Redis.AddHook(&afterReclaim{do: func() { require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale)) }})
		_, err := w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.ErrorIs(w.T, err, order.ErrBusy)
		require.Equal(w.T, order.Expired, w.Rows()[one.ID].Status)
		w.Work()
		w.Clean()

		late, err := w.Pay(one.ID, orders.Pays(one.ID, 1))
		require.NoError(w.T, err, "sent again")
		require.Equal(w.T, order.PaymentLate, late.Outcome)
		w.Clean()
	})
}
