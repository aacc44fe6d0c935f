package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/order/deadletter"
	"sluice/order/payment"
	"sluice/queue"
)

// atRequeue runs something when the script that puts a letter back is called, before or after Redis has done it.
type atRequeue struct {
	before func()
	after  func(err error) error
}

func (a atRequeue) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a atRequeue) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !requeues(cmd) {
			return next(ctx, cmd)
		}
		if a.before != nil {
			a.before()
		}
		err := next(ctx, cmd)
		if a.after != nil {
			err = a.after(err)
			cmd.SetErr(err)
		}
		return err
	}
}

func (a atRequeue) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// requeues reports the call that puts a letter back. It is the only one whose sixth of seven keys is the list of
// letters.
func requeues(cmd redis.Cmder) bool {
	args := cmd.Args()
	return strings.HasPrefix(cmd.Name(), "eval") && len(args) > 8 && args[2] == 7 &&
		strings.HasSuffix(fmt.Sprint(args[8]), ":dead")
}

// through are dead letters whose client has a hook.
func through(w *orders.World, hook atRequeue) *deadletter.Admin {
	w.T.Helper()
	rdb := testkit.ProductClient(w.T, w.Redis.Options().Addr)
	rdb.AddHook(hook)
	return deadletter.NewAdmin(w.DB, queue.NewLines(rdb, queue.DefaultPrefix), w.AdminLog(0))
}

// Two operators put one letter back at the same time. One does, the other reads that it is no letter any more. The
// order is made once, with its e-mail.
func TestTwoOperatorsRequeueOneLetter(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := w.Bury("ann", 1)
		second := error(nil)
		var once sync.Once
		first := through(w, atRequeue{before: func() {
			once.Do(func() { second = w.DeadLetters().Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", "") })
		}})
		err := first.Requeue(w.Ctx, orders.Sale, ticket.ID, "piet", "")
		require.NoError(t, second)
		require.ErrorIs(t, err, queue.ErrNotDead)
		require.Len(t, logged(w, "dead.requeue"), 1, "what was refused is no change")
		w.Clean()
		w.Work()
		row := w.Rows()[ticket.ID]
		require.Equal(t, order.Confirmed, row.Status)
		require.Equal(t, "ann@example.com", row.Email)
		require.EqualValues(t, 1, w.Clean().Live)
	})
}

// The answer of Redis is lost: what was done counts, and the operator hears of it.
func TestARequeueWhoseAnswerIsLost(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := w.Bury("ann", 1)
		var lost atomic.Int64
		letters := through(w, atRequeue{after: func(err error) error {
			if err != nil {
				return err
			}
			lost.Add(1)
			return errors.New("the reply is lost")
		}})
		require.NoError(t, letters.Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
		require.EqualValues(t, 1, lost.Load())
		w.Clean()
		w.Work()
		require.Equal(t, order.Confirmed, w.Rows()[ticket.ID].Status)
		w.Clean()
	})
}

// Redis never got the call: the letter is still there, and so is its row.
func TestARequeueThatNeverArrived(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := w.Bury("ann", 1)
		away, cancel := context.WithCancel(w.Ctx)
		letters := through(w, atRequeue{before: cancel})
		require.ErrorIs(t, letters.Requeue(away, orders.Sale, ticket.ID, "olga", ""), context.Canceled)
		require.Equal(t, order.Failed, w.Rows()[ticket.ID].Status)
		require.NoError(t, w.DeadLetters().Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
		w.Work()
		require.Equal(t, order.Confirmed, w.Rows()[ticket.ID].Status)
		w.Clean()
	})
}

// A payment of a dead order must go back, also after the order lives again and is paid once more.
func TestARefundOutlivesARequeue(t *testing.T) {
	orders.EachUnpaid(t, 3, 1, func(w *orders.World) {
		ticket := w.Bury("ann", 1)
		paying, err := w.Pay(ticket.ID, payment.Payment{ID: "first", AmountCents: 9900, Currency: "CNY"})
		require.NoError(t, err)
		require.Equal(t, order.PaymentRefund, paying.Outcome)
		require.NoError(t, w.DeadLetters().Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
		require.True(t, w.Look(ticket.ID).Refund, "in line")
		w.Work()
		require.Equal(t, order.Confirmed, w.Look(ticket.ID).Status)
		require.True(t, w.Look(ticket.ID).Refund, "confirmed, in the line's words")
		require.Equal(t, order.RefundEnded, w.Rows()[ticket.ID].Refund)
		paying, err = w.Pay(ticket.ID, payment.Payment{ID: "second", AmountCents: 9900, Currency: "CNY"})
		require.NoError(t, err)
		require.Equal(t, order.PaymentAccepted, paying.Outcome)
		require.True(t, paying.Order.Refund, "the first must still go back")
		require.True(t, w.Look(ticket.ID).Refund)
		w.Clean()
	})
}

// A letter can die again, and live again.
func TestALetterDiesTwice(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := w.Bury("ann", 1)
		require.NoError(t, w.DeadLetters().Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
		b := w.Claim(1)
		outcomes, err := w.Fulfiller.Bury(w.Ctx, b, "gave up")
		require.NoError(t, err)
		require.Equal(t, queue.OpDead, outcomes[0].Op)
		w.Settle(b, orders.ByID(outcomes))
		require.EqualValues(t, 1, w.View().Dead)
		require.Equal(t, order.Failed, w.Rows()[ticket.ID].Status)
		w.Clean()
		require.NoError(t, w.DeadLetters().Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
		w.Work()
		require.Equal(t, order.Confirmed, w.Rows()[ticket.ID].Status)
		w.Clean()
	})
}

// Whoever buried a ticket dies before it says so: the ticket is a letter all the same.
func TestABuriedTicketIsListedWhoeverSettlesIt(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		w.Admit("ann", 1)
		b := w.Claim(1)
		_, err := w.Fulfiller.Bury(w.Ctx, b, "gave up")
		require.NoError(t, err)
		w.EndLease(b)
		w.Work()
		require.EqualValues(t, 1, w.View().Dead)
		w.Clean()
	})
}

// A user who holds another order of the sale by now gets no second one from the ledger, whatever Redis thinks.
func TestALetterWhoseSlotIsTakenInTheLedgerFails(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := w.Bury("ann", 1)
		other := w.Confirm("ann", 1)
		require.NoError(t, w.Redis.HDel(w.Ctx, orders.Key("holders"), "ann").Err(),
			"Redis forgets what ann holds")
		require.NoError(t, w.DeadLetters().Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
		w.Work()
		rows := w.Rows()
		require.Equal(t, order.Confirmed, rows[other.ID].Status)
		require.Equal(t, []string{order.Failed, order.ReasonLimit},
			[]string{rows[ticket.ID].Status, rows[ticket.ID].Reason})
	})
}

// The last trace of an order without a row is its letter: whoever drops it writes the row first.
func TestADroppedLetterLeavesARow(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := w.Bury("ann", 1)
		w.Exec("DELETE FROM orders WHERE id = ?", ticket.ID) // as builds of before left it when a requeue died half way
		require.NoError(t, w.DeadLetters().Drop(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
		row := w.Rows()[ticket.ID]
		require.Equal(t, []string{order.Failed, "ann"}, []string{row.Status, row.UserID})
		require.Equal(t, ticket.Seq, row.Seq)
		w.Clean()
	})
}

// Redis comes back with a list of letters that is older than what an order's owner was told.
func TestALetterOfAnOrderThatExistsIsNoLetter(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := w.Confirm("ann", 1)
		require.NoError(t, w.Redis.LPush(w.Ctx, orders.Key("dead"), ticket.ID).Err())
		require.ErrorIs(t, w.DeadLetters().Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""), queue.ErrNotDead)
		require.NoError(t, w.DeadLetters().Drop(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
		require.NoError(t, w.Cancel(ticket.ID, "ann"))
		require.EqualValues(t, 3, w.Clean().LineStock, "its unit could come back")
	})
}
