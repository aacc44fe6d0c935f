package order_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/order/restore"
	"sluice/queue"
	"sluice/store"
)

// committed returns a ticket of which a worker has made an order without a word to the line. It waits for its next
// try.
func committed(w *orders.World, user string) queue.Ticket {
	w.T.Helper()
	ticket := w.Admit(user, 1)
	b := w.Claim(1)
	w.Handle(b)
	w.EndLease(b)
	b = w.Claim(1)
	outcome := queue.Outcome{ID: ticket.ID, Op: queue.OpRetry, Delay: time.Hour}
	require.NoError(w.T, w.Line.Settle(w.Ctx, b, []queue.Outcome{outcome}))
	return ticket
}

// An owner cancels a ticket of which a worker has made an order without a word to the line. What the owner has read
// holds, and the order ends too.
func TestACancelledTicketEndsTheOrderThatAWorkerMadeOfIt(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := committed(w, "ann")
		require.NoError(t, w.Cancel(ticket.ID, "ann"))
		require.Equal(t, order.Cancelled, w.Look(ticket.ID).Status)
		require.EqualValues(t, 2, w.Clean().LineStock, "nobody is sold its unit while it is an order's")
		w.Work()
		row := w.Rows()[ticket.ID]
		require.Equal(t, order.Cancelled, row.Status)
		require.Nil(t, row.Slot)
		require.EqualValues(t, 3, w.Available())
		require.EqualValues(t, 3, w.Clean().LineStock)
		require.Equal(t, 1, w.News()["order.cancelled email"])
		w.Admit("ann", 1) // the slot is free in both stores
		w.Work()
		require.EqualValues(t, 1, w.Clean().Live)
	})
}

// The same, and the line is rebuilt before a worker has seen the ticket again.
func TestACancelledTicketEndsItsOrderInARebuild(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		w.Reconciler.RestoreBy(restore.NewRestorer(w.DB, orders.Channels(), time.Now, "test").Restore)
		ticket := committed(w, "ann")
		require.NoError(t, w.Cancel(ticket.ID, "ann"))
		require.NoError(t, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		require.Equal(t, order.Cancelled, w.Look(ticket.ID).Status)
		require.Equal(t, order.Cancelled, w.Rows()[ticket.ID].Status)
		require.EqualValues(t, 3, w.Clean().LineStock)
		require.NoError(t, w.Cache.Refresh(w.Ctx))
		w.Work()
		require.EqualValues(t, 3, w.Clean().Available)
	})
}

// The same, and the order is paid before a worker has seen the ticket again: the money must go back.
func TestACancelledTicketEndsItsOrderThoughItWasPaid(t *testing.T) {
	orders.EachUnpaid(t, 3, 1, func(w *orders.World) {
		ticket := committed(w, "ann")
		require.NoError(t, w.Cancel(ticket.ID, "ann"))
		_, err := w.Pay(ticket.ID, orders.Pays(ticket.ID, 1))
		require.NoError(t, err)
		w.Work()
		row := w.Rows()[ticket.ID]
		require.Equal(t, []string{order.Cancelled, order.RefundEnded}, []string{row.Status, row.Refund})
		require.EqualValues(t, 3, w.Clean().LineStock)
		again, err := w.Pay(ticket.ID, orders.Pays(ticket.ID, 1))
		require.NoError(t, err)
		require.True(t, again.Refund(), "the provider hears of it when it sends the payment again")
		require.Equal(t, 1, w.News()["order.refund_required email"])
	})
}

// A ticket is cancelled whose row says that it failed or expired. The row is of an earlier life, or of a worker that
// came late. What its owner has read holds, whether a worker, one that gives up, or a rebuild gets to it.
func TestACancelledTicketThatHadFailedIsCancelled(t *testing.T) {
	dies := map[string]func(*orders.World) queue.Ticket{
		"in an earlier life": func(w *orders.World) queue.Ticket {
			ticket := w.Bury("ann", 1)
			require.NoError(w.T, w.DeadLetters().Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
			return ticket
		},
		"by a worker that came late": func(w *orders.World) queue.Ticket {
			ticket := w.Admit("ann", 1)
			b := w.Claim(1)
			w.EndLease(b)
			_, err := w.Fulfiller.Bury(w.Ctx, b, "gave up")
			require.NoError(w.T, err)
			return ticket
		},
		"and expired unpaid": func(w *orders.World) queue.Ticket {
			ticket := w.Admit("ann", 1)
			b := w.Claim(1)
			w.Handle(b)
			w.Exec("UPDATE orders SET pay_by = 1")
			require.NoError(w.T, w.Expirer.Expire(w.Ctx))
			w.EndLease(b)
			return ticket
		},
	}
	ends := map[string]func(*orders.World){
		"a worker": (*orders.World).Work,
		"a worker that gives up": func(w *orders.World) {
			b := w.Claim(1)
			outcomes, err := w.Fulfiller.Bury(w.Ctx, b, "gave up")
			require.NoError(w.T, err)
			w.Settle(b, orders.ByID(outcomes))
		},
		"a rebuild": func(w *orders.World) {
			require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
			require.NoError(w.T, w.Cache.Refresh(w.Ctx))
			require.EqualValues(w.T, 3, w.Clean().LineStock, "before a worker has seen it")
			require.EqualValues(w.T, 3, w.Available())
			w.Work()
		},
	}
	for how, die := range dies {
		for who, end := range ends {
			t.Run(how+", "+who, func(t *testing.T) {
				orders.EachUnpaid(t, 3, 1, func(w *orders.World) {
					w.Reconciler.RestoreBy(restore.NewRestorer(w.DB, orders.Channels(), time.Now, "test").Restore)
					ticket := die(w)
					w.Clean()
					require.NoError(w.T, w.Cancel(ticket.ID, "ann"))
					require.Equal(w.T, order.Cancelled, w.Look(ticket.ID).Status)
					w.Clean()
					end(w)
					require.Equal(w.T, order.Cancelled, w.Look(ticket.ID).Status)
					row := w.Rows()[ticket.ID]
					require.Equal(w.T, []string{order.Cancelled, ""}, []string{row.Status, row.Reason})
					require.Equal(w.T, 1, w.News()["order.cancelled email"])
					audit := w.Clean()
					require.EqualValues(w.T, []int64{3, 3}, []int64{audit.LineStock, audit.Available})
					w.Work()
					require.Equal(w.T, 1, w.News()["order.cancelled email"], "its owner is notified once")
					w.Clean()
				})
			})
		}
	}
}

// It is paid and the line rebuilt before a worker has seen the ticket again: who pays back finds the payment.
func TestACancelledTicketsPaymentGoesBackInARebuild(t *testing.T) {
	orders.EachUnpaid(t, 3, 1, func(w *orders.World) {
		w.Reconciler.RestoreBy(restore.NewRestorer(w.DB, orders.Channels(), time.Now, "test").Restore)
		ticket := committed(w, "ann")
		require.NoError(w.T, w.Cancel(ticket.ID, "ann"))
		_, err := w.Pay(ticket.ID, orders.Pays(ticket.ID, 1))
		require.NoError(w.T, err)
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		row := w.Rows()[ticket.ID]
		require.Equal(w.T, []string{order.Cancelled, order.RefundEnded}, []string{row.Status, row.Refund})
		again, err := w.Pay(ticket.ID, orders.Pays(ticket.ID, 1))
		require.NoError(w.T, err)
		require.True(w.T, again.Refund(), "the provider hears of it when it sends the payment again")
		require.EqualValues(w.T, 3, w.Clean().LineStock)
	})
}

// A letter that came back dies again just as a worker that came late makes an order of it: the order stands.
func TestALetterThatBecomesAnOrderIsNotBuried(t *testing.T) {
	w := orders.New(t, tables.New(t, store.Postgres), testkit.Embedded(t).Addr(), 3, 1)
	ticket := w.Bury("ann", 1)
	require.NoError(t, w.DeadLetters().Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
	b := w.Claim(1)
	late := w.DB.Write.Begin()
	require.NoError(t, late.Exec("SELECT 1 FROM orders WHERE id = ? FOR UPDATE", ticket.ID).Error)
	buried := make(chan []queue.Outcome, 1)
	go func() {
		outcomes, _ := w.Fulfiller.Bury(w.Ctx, b, "gave up")
		buried <- outcomes
	}()
	require.Eventually(t, func() bool {
		var waiting int64
		const waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
		err := w.DB.Read.Raw(waits).Scan(&waiting).Error
		return err == nil && waiting > 0
	}, orders.Soon, time.Millisecond, "it waits for the row")
	confirm := late.Exec("UPDATE orders SET status = 'confirmed', reason = '', slot = 1 WHERE id = ?", ticket.ID)
	require.NoError(t, confirm.Error)
	require.NoError(t, late.Commit().Error)
	require.Equal(t, queue.OpConfirm, (<-buried)[0].Op)
	require.Equal(t, order.Confirmed, w.Rows()[ticket.ID].Status)
}

// A worker that is late may not end an order of a line that was loaded anew.
func TestACancelledTicketOfAnOldEpochEndsNothing(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := committed(w, "ann")
		require.NoError(t, w.Cancel(ticket.ID, "ann"))
		b := w.Claim(1)
		require.NoError(t, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		_, err := w.Fulfiller.Handle(w.Ctx, b)
		require.ErrorIs(t, err, queue.ErrOutdated)
		w.Clean()
		require.NoError(t, w.Cache.Refresh(w.Ctx))
		w.Work()

		again := committed(w, "bob")
		require.NoError(t, w.Cancel(again.ID, "bob"))
		b = w.Claim(1)
		require.NoError(t, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		_, err = w.Fulfiller.Bury(w.Ctx, b, "gave up")
		require.ErrorIs(t, err, queue.ErrOutdated, "no store has failed")
		w.Clean()
	})
}

// A ticket that a worker gave back, because the database was away, is cancelled at once.
func TestATicketThatWasGivenBackIsCancelledAtOnce(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := w.Admit("ann", 1)
		b := w.Claim(1)
		require.ErrorIs(t, w.Line.Cancel(w.Ctx, ticket.ID, "ann"), queue.ErrBusy, "while a worker has it")
		require.NoError(t, w.Line.Settle(w.Ctx, b, []queue.Outcome{{ID: ticket.ID, Op: queue.OpBack}}))
		require.NoError(t, w.Line.Cancel(w.Ctx, ticket.ID, "ann"))
		w.Work()
		require.Equal(t, order.Cancelled, w.Rows()[ticket.ID].Status)

		orphan := w.Admit("bob", 1)
		w.EndLease(w.Claim(1))
		require.NoError(t, w.Line.Cancel(w.Ctx, orphan.ID, "bob"), "its worker died")
		w.Work()
		require.Equal(t, order.Cancelled, w.Rows()[orphan.ID].Status)
		require.EqualValues(t, 3, w.Clean().LineStock)
	})
}
