package order_test

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

	"sluice/order"
	"sluice/queue"
)

func (w *world) dead() *order.DeadLetters { return order.NewDeadLetters(w.db, w.lines, w.adminLog()) }

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

// requeues reports the call that puts a letter back: the only one whose sixth of seven keys is the list of letters.
func requeues(cmd redis.Cmder) bool {
	args := cmd.Args()
	return strings.HasPrefix(cmd.Name(), "eval") && len(args) > 8 && args[2] == 7 &&
		strings.HasSuffix(fmt.Sprint(args[8]), ":dead")
}

// through are dead letters whose client has a hook.
func (w *world) through(hook atRequeue) *order.DeadLetters {
	w.t.Helper()
	rdb := dial(w.t, w.rdb.Options().Addr)
	rdb.AddHook(hook)
	return order.NewDeadLetters(w.db, queue.NewLines(rdb, queue.DefaultPrefix), w.adminLog())
}

// Two operators put one letter back at the same time: one does, the other reads that it is no letter any more, and the
// order is made once, with its e-mail.
func TestTwoOperatorsRequeueOneLetter(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.bury("ann", 1)
		second := error(nil)
		var once sync.Once
		first := w.through(atRequeue{before: func() {
			once.Do(func() { second = w.dead().Requeue(w.ctx, theSale, ticket.ID, "olga", "") })
		}})
		err := first.Requeue(w.ctx, theSale, ticket.ID, "piet", "")
		require.NoError(t, second)
		require.ErrorIs(t, err, queue.ErrNotDead)
		require.Len(t, w.logged("dead.requeue"), 1, "what was refused is no change")
		w.clean()
		w.work()
		row := w.rows()[ticket.ID]
		require.Equal(t, order.Confirmed, row.Status)
		require.Equal(t, "ann@example.com", row.Email)
		require.EqualValues(t, 1, w.clean().Live)
	})
}

// The answer of Redis is lost: what was done counts, and the operator hears of it.
func TestARequeueWhoseAnswerIsLost(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.bury("ann", 1)
		var lost atomic.Int64
		letters := w.through(atRequeue{after: func(err error) error {
			if err != nil {
				return err
			}
			lost.Add(1)
			return errors.New("the reply is lost")
		}})
		require.NoError(t, letters.Requeue(w.ctx, theSale, ticket.ID, "olga", ""))
		require.EqualValues(t, 1, lost.Load())
		w.clean()
		w.work()
		require.Equal(t, order.Confirmed, w.rows()[ticket.ID].Status)
		w.clean()
	})
}

// Redis never got the call: the letter is still there, and so is its row.
func TestARequeueThatNeverArrived(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.bury("ann", 1)
		away, cancel := context.WithCancel(w.ctx)
		letters := w.through(atRequeue{before: cancel})
		require.ErrorIs(t, letters.Requeue(away, theSale, ticket.ID, "olga", ""), context.Canceled)
		require.Equal(t, order.Failed, w.rows()[ticket.ID].Status)
		require.NoError(t, w.dead().Requeue(w.ctx, theSale, ticket.ID, "olga", ""))
		w.work()
		require.Equal(t, order.Confirmed, w.rows()[ticket.ID].Status)
		w.clean()
	})
}

// A payment of a dead order must go back, also after the order lives again and is paid once more.
func TestARefundOutlivesARequeue(t *testing.T) {
	eachUnpaid(t, 3, 1, func(w *world) {
		ticket := w.bury("ann", 1)
		paying, err := w.pay(ticket.ID, order.Payment{ID: "first", AmountCents: 9900, Currency: "CNY"})
		require.NoError(t, err)
		require.Equal(t, order.PaymentRefund, paying.Outcome)
		require.NoError(t, w.dead().Requeue(w.ctx, theSale, ticket.ID, "olga", ""))
		require.True(t, w.look(ticket.ID).Refund, "in line")
		w.work()
		require.Equal(t, order.Confirmed, w.look(ticket.ID).Status)
		require.True(t, w.look(ticket.ID).Refund, "confirmed, in the line's words")
		require.Equal(t, order.RefundEnded, w.rows()[ticket.ID].Refund)
		paying, err = w.pay(ticket.ID, order.Payment{ID: "second", AmountCents: 9900, Currency: "CNY"})
		require.NoError(t, err)
		require.Equal(t, order.PaymentAccepted, paying.Outcome)
		require.True(t, paying.Order.Refund, "the first must still go back")
		require.True(t, w.look(ticket.ID).Refund)
		w.clean()
	})
}

// A letter can die again, and live again.
func TestALetterDiesTwice(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.bury("ann", 1)
		require.NoError(t, w.dead().Requeue(w.ctx, theSale, ticket.ID, "olga", ""))
		b := w.claim(1)
		outcomes, err := w.fulfiller.Bury(w.ctx, b, "gave up")
		require.NoError(t, err)
		require.Equal(t, queue.OpDead, outcomes[0].Op)
		w.settle(b, byID(outcomes))
		require.EqualValues(t, 1, w.view().Dead)
		require.Equal(t, order.Failed, w.rows()[ticket.ID].Status)
		w.clean()
		require.NoError(t, w.dead().Requeue(w.ctx, theSale, ticket.ID, "olga", ""))
		w.work()
		require.Equal(t, order.Confirmed, w.rows()[ticket.ID].Status)
		w.clean()
	})
}

// Whoever buried a ticket dies before it says so: the ticket is a letter all the same.
func TestABuriedTicketIsListedWhoeverSettlesIt(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		w.admit("ann", 1)
		b := w.claim(1)
		_, err := w.fulfiller.Bury(w.ctx, b, "gave up")
		require.NoError(t, err)
		w.expire(b)
		w.work()
		require.EqualValues(t, 1, w.view().Dead)
		w.clean()
	})
}

// A user who holds another order of the sale by now gets no second one from the ledger, whatever Redis thinks.
func TestALetterWhoseSlotIsTakenInTheLedgerFails(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.bury("ann", 1)
		other := w.confirm("ann", 1)
		require.NoError(t, w.rdb.HDel(w.ctx, "sluice:{"+theSale+"/0}:holders", "ann").Err(),
			"Redis forgets what ann holds")
		require.NoError(t, w.dead().Requeue(w.ctx, theSale, ticket.ID, "olga", ""))
		w.work()
		rows := w.rows()
		require.Equal(t, order.Confirmed, rows[other.ID].Status)
		require.Equal(t, []string{order.Failed, order.ReasonLimit},
			[]string{rows[ticket.ID].Status, rows[ticket.ID].Reason})
	})
}

// The last trace of an order without a row is its letter: whoever drops it writes the row first.
func TestADroppedLetterLeavesARow(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.bury("ann", 1)
		w.exec("DELETE FROM orders WHERE id = ?", ticket.ID) // as builds of before left it when a requeue died half way
		require.NoError(t, w.dead().Drop(w.ctx, theSale, ticket.ID, "olga", ""))
		row := w.rows()[ticket.ID]
		require.Equal(t, []string{order.Failed, "ann"}, []string{row.Status, row.UserID})
		require.Equal(t, ticket.Seq, row.Seq)
		w.clean()
	})
}

// Redis comes back with a list of letters that is older than what an order's owner was told.
func TestALetterOfAnOrderThatExistsIsNoLetter(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.confirm("ann", 1)
		require.NoError(t, w.rdb.LPush(w.ctx, "sluice:{"+theSale+"/0}:dead", ticket.ID).Err())
		require.ErrorIs(t, w.dead().Requeue(w.ctx, theSale, ticket.ID, "olga", ""), queue.ErrNotDead)
		require.NoError(t, w.dead().Drop(w.ctx, theSale, ticket.ID, "olga", ""))
		require.NoError(t, w.cancel(ticket.ID, "ann"))
		require.EqualValues(t, 3, w.clean().LineStock, "its unit could come back")
	})
}
