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
