package order_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/order"
	"sluice/queue"
)

// expired is an order that was not paid in time.
func (w *world) expired(user string, units int) queue.Ticket {
	w.t.Helper()
	t := w.confirm(user, units)
	w.pass(t.ID)
	require.NoError(w.t, w.expirer.Expire(w.ctx))
	require.Equal(w.t, order.Expired, w.rows()[t.ID].Status)
	return t
}

func TestOverdueButNotExpiredIsPaid(t *testing.T) {
	eachUnpaid(t, 1, 1, func(w *world) {
		one := w.confirm("ann", 1)
		w.pass(one.ID)
		paid, err := w.pay(one.ID, pays(one.ID, 1))
		require.NoError(w.t, err)
		require.Equal(w.t, order.PaymentLate, paid.Outcome)
		require.NoError(w.t, w.expirer.Expire(w.ctx))
		require.Equal(w.t, map[string]int{order.Paid: 1}, w.count())
		w.clean()
	})
}

func TestLatePaymentTakesTheUnitsAgain(t *testing.T) {
	eachUnpaid(t, 3, 3, func(w *world) {
		other := w.confirm("ann", 1)
		one := w.expired("ann", 2)
		paid, err := w.pay(one.ID, pays(one.ID, 2))
		require.NoError(w.t, err)
		require.Equal(w.t, order.PaymentLate, paid.Outcome)
		require.Equal(w.t, order.Paid, paid.Order.Status)
		row := w.rows()[one.ID]
		require.Equal(w.t, 2, *row.Slot, "the other order has the first")
		require.Zero(w.t, row.EndedAt)
		require.Equal(w.t, queue.Paid, w.ticket(one.ID).State)
		require.Zero(w.t, w.available())
		require.Zero(w.t, w.view().Stock)
		require.False(w.t, w.view().InFlight())
		var changes int64
		require.NoError(w.t, w.db.Read.Table("stock").Where("sale_id = ?", theSale).Select("changes").Scan(&changes).
			Error)
		require.Equal(w.t, changes, w.view().Ledger, "should the database forget it, that is noticed")
		require.ErrorIs(w.t, w.try(theSale, w.request("bob", 1)).Err, queue.ErrSoldOut)
		require.ErrorAs(w.t, w.try(theSale, w.request("ann", 1)).Err, &queue.LimitError{})
		again, err := w.pay(one.ID, pays(one.ID, 2))
		require.NoError(w.t, err)
		require.True(w.t, again.Repeated)
		require.Equal(w.t, order.PaymentLate, again.Outcome)

		// Whoever comes late to bring the expiry into the line changes nothing.
		require.NoError(w.t, w.line.Release(w.ctx, []queue.Ended{{ID: one.ID, State: queue.Expired}}, 0))
		require.Equal(w.t, queue.Paid, w.ticket(one.ID).State)
		w.clean()
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
		require.Equal(w.t, queue.Paid, w.ticket(one.ID).State)
		require.Equal(w.t, queue.Confirmed, w.ticket(other.ID).State)
		require.EqualValues(w.t, 1, w.unpaid())
		w.clean()
	})
}

// An expiry that has reached the ledger only is brought into the line first.
func TestLatePaymentBeforeTheLineKnows(t *testing.T) {
	eachUnpaid(t, 1, 1, func(w *world) {
		one := w.confirm("ann", 1)
		w.pass(one.ID)
		w.exec("UPDATE orders SET status = 'expired', slot = NULL, released = 0, ended_at = 5 WHERE id = ?", one.ID)
		w.exec("UPDATE stock SET available = available + 1")
		paid, err := w.pay(one.ID, pays(one.ID, 1))
		require.NoError(w.t, err)
		require.Equal(w.t, order.Paid, paid.Order.Status)
		require.NoError(w.t, w.reconciler.Reconcile(w.ctx))
		require.Equal(w.t, queue.Paid, w.ticket(one.ID).State)
		require.Zero(w.t, w.view().Stock)
		w.clean()
	})
}

func TestLatePaymentWithNothingLeft(t *testing.T) {
	eachUnpaid(t, 2, 1, func(w *world) {
		one := w.expired("ann", 1)
		w.confirm("bob", 1)
		w.confirm("cid", 1)
		late, err := w.pay(one.ID, pays(one.ID, 1))
		require.NoError(w.t, err)
		require.Equal(w.t, order.PaymentRefund, late.Outcome)
		require.Equal(w.t, order.Expired, late.Order.Status)
		require.Equal(w.t, 1, w.news()["order.refund_required stream"])
		require.Zero(w.t, w.news()["order.paid stream"])
		w.clean()
	})
}

// A worker died after its transaction, a rebuild left its ticket in the line, and the order expired: until that
// ticket has been
// taken off, the order is not brought back, or it would stand in the line twice.
func TestLatePaymentOfATicketThatIsStillListed(t *testing.T) {
	for _, place := range []string{"suspect", "leased", "retry"} {
		t.Run(place, func(t *testing.T) {
			eachUnpaid(t, 1, 1, func(w *world) {
				one := w.admit("ann", 1)
				_, err := w.fulfiller.Handle(w.ctx, w.claim(1))
				require.NoError(w.t, err)
				require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
				w.exec("UPDATE orders SET status = 'expired', slot = NULL, released = 0, ended_at = 5 WHERE id = ?",
					one.ID)
				w.exec("UPDATE stock SET available = available + 1")
				w.keep()
				require.Equal(w.t, queue.Expired, w.ticket(one.ID).State)
				var held queue.Batch
				if place != "suspect" {
					held = w.claim(1)
				}
				if place == "retry" {
					require.NoError(w.t, w.line.Settle(w.ctx, held, []queue.Outcome{{ID: one.ID, Op: queue.OpRetry,
						Delay: time.Hour}}))
				}
				_, err = w.pay(one.ID, pays(one.ID, 1))
				require.ErrorIs(w.t, err, order.ErrBusy)
				require.Zero(w.t, w.view().Bounded)
				w.clean()
				require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
				w.work()
				late, err := w.pay(one.ID, pays(one.ID, 1))
				require.NoError(w.t, err, "sent again")
				require.Equal(w.t, order.PaymentLate, late.Outcome)
				require.Zero(w.t, w.view().Bounded)
				w.clean()
			})
		})
	}
}

// A ticket may stand in the line twice all the same, in data of an older build: both entries are counted, and the cap
// stays exact.
func TestARebuildCountsATicketThatIsListedTwice(t *testing.T) {
	eachUnpaid(t, 2, 1, func(w *world) {
		w.admit("ann", 1)
		one := w.admit("bob", 1)
		require.NoError(w.t, w.rdb.LPush(w.ctx, "sluice:{"+theSale+"/0}:suspect", one.ID).Err())
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
		require.EqualValues(w.t, 2, w.view().Bounded)
		for w.view().InFlight() {
			w.work()
		}
		require.Zero(w.t, w.view().Bounded)
		w.clean()
	})
}

// Who has bought again meanwhile holds the limit: the late payment goes back.
func TestLatePaymentOverTheLimit(t *testing.T) {
	eachUnpaid(t, 5, 1, func(w *world) {
		one := w.expired("ann", 1)
		w.confirm("ann", 1)
		late, err := w.pay(one.ID, pays(one.ID, 1))
		require.NoError(w.t, err)
		require.Equal(w.t, order.PaymentRefund, late.Outcome)

		// Redis may have forgotten the other order: the ledger has not.
		two := w.expired("bob", 1)
		w.confirm("bob", 1)
		require.NoError(w.t, w.rdb.HDel(w.ctx, "sluice:{"+theSale+"/0}:holders", "bob").Err())
		late, err = w.pay(two.ID, pays(two.ID, 1))
		require.NoError(w.t, err)
		require.Equal(w.t, order.PaymentRefund, late.Outcome)
		require.Equal(w.t, queue.Expired, w.ticket(two.ID).State)
		require.EqualValues(w.t, 3, w.view().Stock)
		require.False(w.t, w.view().InFlight())
		w.clean()
	})
}

// With a limit above one the slot may be free although the user holds all it may.
func TestLatePaymentOverTheLimitThatRedisForgot(t *testing.T) {
	eachUnpaid(t, 9, 3, func(w *world) {
		one := w.expired("ann", 2)
		w.confirm("ann", 2)
		require.NoError(w.t, w.rdb.HSet(w.ctx, "sluice:{"+theSale+"/0}:holders", "ann", "unheard-of:1:1").Err())
		late, err := w.pay(one.ID, pays(one.ID, 2))
		require.NoError(w.t, err)
		require.Equal(w.t, order.PaymentRefund, late.Outcome)
		require.Equal(w.t, order.Expired, w.rows()[one.ID].Status)
		w.clean()
	})
}

// A payer that dies with the units leaves a lease: a worker settles by what the
// database says, and the audit is clean at every step.
func TestLatePayerDies(t *testing.T) {
	eachUnpaid(t, 2, 1, func(w *world) {
		one := w.expired("ann", 1)
		sale, _, err := w.sales.Get(w.ctx, theSale)
		require.NoError(w.t, err)
		revive := func() queue.ReclaimedUnit {
			row := w.rows()[one.ID]
			r, err := w.line.ReclaimUnit(w.ctx, sale.Epoch, "late-"+time.Now().String(), lease,
				queue.Ticket{ID: row.ID, User: row.UserID, Units: row.Quantity, Seq: row.Seq,
					AdmittedAt: time.UnixMilli(row.AdmittedAt), Fingerprint: row.Fingerprint, Position: row.Position,
					ETASeconds: row.ETASeconds})
			require.NoError(w.t, err)
			w.clean()
			return r
		}
		dead := revive()
		require.EqualValues(w.t, 1, w.view().Stock)
		_, err = w.pay(one.ID, pays(one.ID, 1))
		require.ErrorIs(w.t, err, order.ErrBusy)
		require.ErrorIs(w.t, w.line.Cancel(w.ctx, one.ID, "ann"), queue.ErrBusy)
		w.expire(dead.Batch)
		w.clean()
		w.work()
		require.Equal(w.t, queue.Expired, w.ticket(one.ID).State)
		require.EqualValues(w.t, 2, w.view().Stock)
		w.clean()

		dead = revive()
		w.exec("UPDATE orders SET status = 'paid', slot = 1, paid_at = 9, ended_at = 0, released = 1, late_seq = ? "+
			"WHERE id = ?", dead.Mark, one.ID)
		w.exec("UPDATE stock SET available = available - 1")
		w.clean()
		w.expire(dead.Batch)
		w.clean()
		w.work()
		require.Equal(w.t, queue.Paid, w.ticket(one.ID).State)
		require.EqualValues(w.t, 1, w.view().Stock)
		require.False(w.t, w.view().InFlight())
		w.clean()
	})
}

// afterRevive calls do once, when a late payer has taken the units in the line.
type afterRevive struct{ do func() }

func (h *afterRevive) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *afterRevive) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *afterRevive) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
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

// A payer that stands still for longer than its lease takes nothing: by then
// a worker has given the units back, and another shopper may have them.
func TestLatePayerOutlivesItsLease(t *testing.T) {
	eachUnpaid(t, 1, 1, func(w *world) {
		one := w.expired("ann", 1)
		w.rdb.AddHook(&afterRevive{do: func() {
			batches, err := w.rdb.ZRange(w.ctx, "sluice:{"+theSale+"/0}:lease", 0, -1).Result()
			require.NoError(w.t, err)
			require.Len(w.t, batches, 1)
			w.expire(queue.Batch{ID: batches[0], Tickets: []queue.Ticket{one}})
			w.work()
		}})
		_, err := w.pay(one.ID, pays(one.ID, 1))
		require.ErrorIs(w.t, err, order.ErrBusy)
		require.Equal(w.t, order.Expired, w.rows()[one.ID].Status)
		require.Equal(w.t, queue.Expired, w.ticket(one.ID).State)
		require.EqualValues(w.t, 1, w.available())
		require.EqualValues(w.t, 1, w.view().Stock)
		w.clean()

		late, err := w.pay(one.ID, pays(one.ID, 1))
		require.NoError(w.t, err, "sent again")
		require.Equal(w.t, order.PaymentLate, late.Outcome)
		require.ErrorIs(w.t, w.try(theSale, w.request("bob", 1)).Err, queue.ErrSoldOut)
		w.clean()
	})
}

// A line that is loaded anew between the payer's two steps takes the units from it: the provider is told to come again,
// and then they are there.
func TestLatePayerMeetsARebuild(t *testing.T) {
	eachUnpaid(t, 1, 1, func(w *world) {
		one := w.expired("ann", 1)
		w.rdb.AddHook(&afterRevive{do: func() { require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale)) }})
		_, err := w.pay(one.ID, pays(one.ID, 1))
		require.ErrorIs(w.t, err, order.ErrBusy)
		require.Equal(w.t, order.Expired, w.rows()[one.ID].Status)
		w.work()
		w.clean()

		late, err := w.pay(one.ID, pays(one.ID, 1))
		require.NoError(w.t, err, "sent again")
		require.Equal(w.t, order.PaymentLate, late.Outcome)
		w.clean()
	})
}
