package order_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/store"
)

// committed is a ticket of which a worker has made an order without a word to the line: it waits for its next try.
func (w *world) committed(user string) queue.Ticket {
	w.t.Helper()
	ticket := w.admit(user, 1)
	b := w.claim(1)
	w.handle(b)
	w.expire(b)
	b = w.claim(1)
	outcome := queue.Outcome{ID: ticket.ID, Op: queue.OpRetry, Delay: time.Hour}
	require.NoError(w.t, w.line.Settle(w.ctx, b, []queue.Outcome{outcome}))
	return ticket
}

// An owner cancels a ticket of which a worker has made an order without a word to the line: what the owner was told
// holds, and the order ends too.
func TestACancelledTicketEndsTheOrderThatAWorkerMadeOfIt(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.committed("ann")
		require.NoError(t, w.cancel(ticket.ID, "ann"))
		require.Equal(t, order.Cancelled, w.look(ticket.ID).Status)
		require.EqualValues(t, 2, w.clean().LineStock, "nobody is sold its unit while it is an order's")
		w.work()
		row := w.rows()[ticket.ID]
		require.Equal(t, order.Cancelled, row.Status)
		require.Nil(t, row.Slot)
		require.EqualValues(t, 3, w.available())
		require.EqualValues(t, 3, w.clean().LineStock)
		require.Equal(t, 1, w.news()["order.cancelled email"])
		w.admit("ann", 1) // the slot is free in both stores
		w.work()
		require.EqualValues(t, 1, w.clean().Live)
	})
}

// The same, and the line is rebuilt before a worker has seen the ticket again.
func TestACancelledTicketEndsItsOrderInARebuild(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		w.reconciler.RestoreBy(order.NewRestorer(w.db, channels, time.Now, "test").Restore)
		ticket := w.committed("ann")
		require.NoError(t, w.cancel(ticket.ID, "ann"))
		require.NoError(t, w.reconciler.Rebuild(w.ctx, theSale))
		require.Equal(t, order.Cancelled, w.look(ticket.ID).Status)
		require.Equal(t, order.Cancelled, w.rows()[ticket.ID].Status)
		require.EqualValues(t, 3, w.clean().LineStock)
		require.NoError(t, w.cache.Refresh(w.ctx))
		w.work()
		require.EqualValues(t, 3, w.clean().Available)
	})
}

// The same, and the order is paid before a worker has seen the ticket again: the money must go back.
func TestACancelledTicketEndsItsOrderThoughItWasPaid(t *testing.T) {
	eachUnpaid(t, 3, 1, func(w *world) {
		ticket := w.committed("ann")
		require.NoError(t, w.cancel(ticket.ID, "ann"))
		_, err := w.pay(ticket.ID, pays(ticket.ID, 1))
		require.NoError(t, err)
		w.work()
		row := w.rows()[ticket.ID]
		require.Equal(t, []string{order.Cancelled, order.RefundEnded}, []string{row.Status, row.Refund})
		require.EqualValues(t, 3, w.clean().LineStock)
		again, err := w.pay(ticket.ID, pays(ticket.ID, 1))
		require.NoError(t, err)
		require.True(t, again.Refund(), "the provider hears of it when it sends the payment again")
		require.Equal(t, 1, w.news()["order.refund_required email"])
	})
}

// A ticket is cancelled whose row says that it failed or expired: of an earlier life, or of a worker that came late.
// What its owner was told holds, whether a worker, one that gives up, or a rebuild gets to it.
func TestACancelledTicketThatHadFailedIsCancelled(t *testing.T) {
	dies := map[string]func(*world) queue.Ticket{
		"in an earlier life": func(w *world) queue.Ticket {
			ticket := w.bury("ann", 1)
			require.NoError(w.t, w.dead().Requeue(w.ctx, theSale, ticket.ID, "olga", ""))
			return ticket
		},
		"by a worker that came late": func(w *world) queue.Ticket {
			ticket := w.admit("ann", 1)
			b := w.claim(1)
			w.expire(b)
			_, err := w.fulfiller.Bury(w.ctx, b, "gave up")
			require.NoError(w.t, err)
			return ticket
		},
		"and expired unpaid": func(w *world) queue.Ticket {
			ticket := w.admit("ann", 1)
			b := w.claim(1)
			w.handle(b)
			w.exec("UPDATE orders SET pay_by = 1")
			require.NoError(w.t, w.expirer.Expire(w.ctx))
			w.expire(b)
			return ticket
		},
	}
	ends := map[string]func(*world){
		"a worker": (*world).work,
		"a worker that gives up": func(w *world) {
			b := w.claim(1)
			outcomes, err := w.fulfiller.Bury(w.ctx, b, "gave up")
			require.NoError(w.t, err)
			w.settle(b, byID(outcomes))
		},
		"a rebuild": func(w *world) {
			require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
			require.NoError(w.t, w.cache.Refresh(w.ctx))
			require.EqualValues(w.t, 3, w.clean().LineStock, "before a worker has seen it")
			require.EqualValues(w.t, 3, w.available())
			w.work()
		},
	}
	for how, die := range dies {
		for who, end := range ends {
			t.Run(how+", "+who, func(t *testing.T) {
				eachUnpaid(t, 3, 1, func(w *world) {
					w.reconciler.RestoreBy(order.NewRestorer(w.db, channels, time.Now, "test").Restore)
					ticket := die(w)
					w.clean()
					require.NoError(w.t, w.cancel(ticket.ID, "ann"))
					require.Equal(w.t, order.Cancelled, w.look(ticket.ID).Status)
					w.clean()
					end(w)
					require.Equal(w.t, order.Cancelled, w.look(ticket.ID).Status)
					row := w.rows()[ticket.ID]
					require.Equal(w.t, []string{order.Cancelled, ""}, []string{row.Status, row.Reason})
					require.Equal(w.t, 1, w.news()["order.cancelled email"])
					audit := w.clean()
					require.EqualValues(w.t, []int64{3, 3}, []int64{audit.LineStock, audit.Available})
					w.work()
					require.Equal(w.t, 1, w.news()["order.cancelled email"], "its owner is told once")
					w.clean()
				})
			})
		}
	}
}

// It is paid and the line rebuilt before a worker has seen the ticket again: who pays back finds the payment.
func TestACancelledTicketsPaymentGoesBackInARebuild(t *testing.T) {
	eachUnpaid(t, 3, 1, func(w *world) {
		w.reconciler.RestoreBy(order.NewRestorer(w.db, channels, time.Now, "test").Restore)
		ticket := w.committed("ann")
		require.NoError(w.t, w.cancel(ticket.ID, "ann"))
		_, err := w.pay(ticket.ID, pays(ticket.ID, 1))
		require.NoError(w.t, err)
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
		row := w.rows()[ticket.ID]
		require.Equal(w.t, []string{order.Cancelled, order.RefundEnded}, []string{row.Status, row.Refund})
		again, err := w.pay(ticket.ID, pays(ticket.ID, 1))
		require.NoError(w.t, err)
		require.True(w.t, again.Refund(), "the provider hears of it when it sends the payment again")
		require.EqualValues(w.t, 3, w.clean().LineStock)
	})
}

// A letter that came back dies again just as a worker that came late makes an order of it: the order stands.
func TestALetterThatBecomesAnOrderIsNotBuried(t *testing.T) {
	w := newWorld(t, tables.New(t, store.Postgres), testkit.Embedded(t).Addr(), 3, 1)
	ticket := w.bury("ann", 1)
	require.NoError(t, w.dead().Requeue(w.ctx, theSale, ticket.ID, "olga", ""))
	b := w.claim(1)
	late := w.db.Write.Begin()
	require.NoError(t, late.Exec("SELECT 1 FROM orders WHERE id = ? FOR UPDATE", ticket.ID).Error)
	buried := make(chan []queue.Outcome, 1)
	go func() {
		outcomes, _ := w.fulfiller.Bury(w.ctx, b, "gave up")
		buried <- outcomes
	}()
	require.Eventually(t, func() bool {
		var waiting int64
		const waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
		err := w.db.Read.Raw(waits).Scan(&waiting).Error
		return err == nil && waiting > 0
	}, soon, time.Millisecond, "it waits for the row")
	confirm := late.Exec("UPDATE orders SET status = 'confirmed', reason = '', slot = 1 WHERE id = ?", ticket.ID)
	require.NoError(t, confirm.Error)
	require.NoError(t, late.Commit().Error)
	require.Equal(t, queue.OpConfirm, (<-buried)[0].Op)
	require.Equal(t, order.Confirmed, w.rows()[ticket.ID].Status)
}

// A worker that is late may not end an order of a line that was loaded anew.
func TestACancelledTicketOfAnOldEpochEndsNothing(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.committed("ann")
		require.NoError(t, w.cancel(ticket.ID, "ann"))
		b := w.claim(1)
		require.NoError(t, w.reconciler.Rebuild(w.ctx, theSale))
		_, err := w.fulfiller.Handle(w.ctx, b)
		require.ErrorIs(t, err, queue.ErrOutdated)
		w.clean()
		require.NoError(t, w.cache.Refresh(w.ctx))
		w.work()

		again := w.committed("bob")
		require.NoError(t, w.cancel(again.ID, "bob"))
		b = w.claim(1)
		require.NoError(t, w.reconciler.Rebuild(w.ctx, theSale))
		_, err = w.fulfiller.Bury(w.ctx, b, "gave up")
		require.ErrorIs(t, err, queue.ErrOutdated, "no store has failed")
		w.clean()
	})
}

// A ticket that a worker gave back, because the database was away, is cancelled at once.
func TestATicketThatWasGivenBackIsCancelledAtOnce(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.admit("ann", 1)
		b := w.claim(1)
		require.ErrorIs(t, w.line.Cancel(w.ctx, ticket.ID, "ann"), queue.ErrBusy, "while a worker has it")
		require.NoError(t, w.line.Settle(w.ctx, b, []queue.Outcome{{ID: ticket.ID, Op: queue.OpBack}}))
		require.NoError(t, w.line.Cancel(w.ctx, ticket.ID, "ann"))
		w.work()
		require.Equal(t, order.Cancelled, w.rows()[ticket.ID].Status)

		suspect := w.admit("bob", 1)
		w.expire(w.claim(1))
		require.NoError(t, w.line.Cancel(w.ctx, suspect.ID, "bob"), "its worker died")
		w.work()
		require.Equal(t, order.Cancelled, w.rows()[suspect.ID].Status)
		require.EqualValues(t, 3, w.clean().LineStock)
	})
}

// consume lets a real consumer drain the sale until nothing is in flight.
func (w *world) consume() {
	w.t.Helper()
	consumer, err := worker.New(worker.Options{
		Config: queue.DefaultConfig(), Pool: worker.DefaultPoolConfig(), Lines: w.lines,
		Sales: func() []string { return []string{theSale} }, Handler: w.fulfiller,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(w.t, err)
	defer w.running(consumer.Run)()
	require.Eventually(w.t, func() bool { v, err := w.line.View(w.ctx); return err == nil && !v.InFlight() }, soon,
		time.Millisecond)
}

// A record that was overwritten names nobody. What its owner holds stands in the holdings too: the unit and the slot
// come back, and the owner reads that the order failed.
func TestAnOverwrittenTicketIsTheOwnersFailedOrder(t *testing.T) {
	eachDatabase(t, 5, 1, func(w *world) {
		before, hit, after := w.admit("ann", 1), w.admit("bob", 1), w.admit("cid", 1)
		require.NoError(t, w.rdb.HSet(w.ctx, "sluice:{"+theSale+"/0}:orders", hit.ID, "garbage").Err())
		w.consume()
		rows := w.rows()
		require.Equal(t, order.Confirmed, rows[before.ID].Status)
		require.Equal(t, order.Confirmed, rows[after.ID].Status)
		row := rows[hit.ID]
		require.Equal(t, []any{order.Failed, "bob", 1, hit.Seq}, []any{row.Status, row.UserID, row.Quantity, row.Seq})
		v := w.look(hit.ID)
		require.Equal(t, []string{order.Failed, "bob"}, []string{v.Status, v.User}, "the line has a record again")
		require.Equal(t, 1, w.news()["order.failed email"])
		audit := w.clean()
		require.EqualValues(t, []int64{3, 3}, []int64{audit.LineStock, audit.Available}, "its unit is back on sale")
		require.Zero(t, audit.Lost)

		require.NoError(t, w.dead().Requeue(w.ctx, theSale, hit.ID, "olga", ""), "it is a letter like any other")
		w.consume()
		require.Equal(t, order.Confirmed, w.rows()[hit.ID].Status)
		w.clean()
	})
}

// The same, and the line is rebuilt before a worker has come to it.
func TestAnOverwrittenTicketKeepsItsOwnerInARebuild(t *testing.T) {
	eachDatabase(t, 5, 1, func(w *world) {
		hit := w.admit("bob", 1)
		require.NoError(t, w.rdb.HSet(w.ctx, "sluice:{"+theSale+"/0}:orders", hit.ID, "garbage").Err())
		require.NoError(t, w.reconciler.Rebuild(w.ctx, theSale))
		require.NoError(t, w.cache.Refresh(w.ctx))
		require.EqualValues(t, 4, w.view().Stock, "its unit is its own until it has failed")
		w.consume()
		require.Equal(t, []string{order.Failed, "bob"}, []string{w.rows()[hit.ID].Status, w.rows()[hit.ID].UserID})
		require.Equal(t, 1, w.news()["order.failed email"])
		audit := w.clean()
		require.EqualValues(t, []int64{5, 5, 0}, []int64{audit.LineStock, audit.Available, audit.Lost})
	})
}

// The same of a ticket of which a worker had made an order already: the order stands.
func TestAnOverwrittenTicketOfAnOrderIsThatOrder(t *testing.T) {
	eachDatabase(t, 5, 1, func(w *world) {
		hit := w.admit("bob", 1)
		b := w.claim(1)
		w.handle(b)
		require.NoError(t, w.rdb.HSet(w.ctx, "sluice:{"+theSale+"/0}:orders", hit.ID, "garbage").Err())
		w.expire(b)
		w.consume()
		require.Equal(t, order.Confirmed, w.look(hit.ID).Status)
		require.NoError(t, w.cancel(hit.ID, "bob"))
		require.EqualValues(t, 5, w.clean().LineStock, "its unit could come back")
	})
}

// A line that was dropped shows no payment, and nobody waits for it.
func TestAPaymentAfterTheLineHasGoneIsAnsweredAtOnce(t *testing.T) {
	eachUnpaid(t, 3, 1, func(w *world) {
		ticket := w.confirm("ann", 1)
		keys, err := w.rdb.Keys(w.ctx, "sluice:{"+theSale+"/0}:*").Result()
		require.NoError(t, err)
		require.NoError(t, w.rdb.Del(w.ctx, keys...).Err())
		before := w.calls()
		paying, err := w.pay(ticket.ID, pays(ticket.ID, 1))
		require.NoError(t, err)
		require.Equal(t, order.PaymentAccepted, paying.Outcome)
		require.LessOrEqual(t, w.calls()-before, int64(2), "the line is asked once, and not again and again")
	})
}

// An order that is cancelled after its sale's line has gone has nothing to be released to.
func TestAnOrderCancelledAfterItsLineHasGoneIsReleased(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.confirm("ann", 1)
		long := time.Now().Add(-30 * 24 * time.Hour).UnixMilli()
		w.exec("UPDATE sales SET starts_at = 1, ends_at = ?, updated_at = ? WHERE id = ?", long, long, theSale)
		keys, err := w.rdb.Keys(w.ctx, "sluice:{"+theSale+"/0}:*").Result()
		require.NoError(t, err)
		require.NoError(t, w.rdb.Del(w.ctx, keys...).Err())
		require.NoError(t, w.cancel(ticket.ID, "ann"))
		require.Equal(t, 1, w.rows()[ticket.ID].Released)

		w.exec("UPDATE orders SET released = 0 WHERE id = ?", ticket.ID) // Redis was away just then
		require.NoError(t, w.reconciler.Reconcile(w.ctx))
		require.Equal(t, 1, w.rows()[ticket.ID].Released, "though nobody keeps the sale any more")
		require.Equal(t, inventory.VerdictClean, w.verdict())
	})
}
