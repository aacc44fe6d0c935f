package order_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

func (w *world) cancel(id, user string) error { return w.canceller.Cancel(w.ctx, theSale, id, user) }

func TestCancelWaitingTicket(t *testing.T) {
	eachDatabase(t, 10, 1, func(w *world) {
		first := w.admit("ann", 1)
		require.ErrorIs(w.t, w.cancel(first.ID, "bob"), order.ErrNotFound)
		require.ErrorIs(w.t, w.cancel("order-9999", "ann"), order.ErrNotFound)
		require.EqualValues(w.t, 9, w.view().Stock)
		require.NoError(w.t, w.cancel(first.ID, "ann"))
		require.EqualValues(w.t, 10, w.view().Stock)
		require.NoError(w.t, w.cancel(first.ID, "ann"), "twice is no error, before a worker has recorded it")
		require.ErrorIs(w.t, w.cancel(first.ID, "bob"), order.ErrNotFound)

		second := w.admit("ann", 1)
		w.work()
		require.NoError(w.t, w.cancel(first.ID, "ann"), "nor after")
		require.Equal(w.t, map[string]int{"confirmed": 1, "cancelled": 1}, w.count())
		require.Equal(w.t, order.Confirmed, w.rows()[second.ID].Status)
		require.EqualValues(w.t, 9, w.available())
		require.EqualValues(w.t, 9, w.view().Stock)
		w.clean()
	})
}

func TestCancelConfirmedOrder(t *testing.T) {
	eachDatabase(t, 10, 3, func(w *world) {
		first := w.admit("ann", 3)
		w.work()
		require.EqualValues(w.t, 7, w.available())
		require.ErrorIs(w.t, w.cancel(first.ID, "bob"), order.ErrNotFound)
		require.ErrorIs(w.t, w.canceller.Cancel(w.ctx, "other", first.ID, "ann"), order.ErrNotFound)
		for range 3 {
			require.NoError(w.t, w.cancel(first.ID, "ann"))
			require.EqualValues(w.t, 10, w.available())
			require.EqualValues(w.t, 10, w.view().Stock)
			w.clean()
		}
		row := w.rows()[first.ID]
		require.Equal(w.t, order.Cancelled, row.Status)
		require.Nil(w.t, row.Slot)
		require.Equal(w.t, 1, row.Released)
		require.Positive(w.t, row.EndedAt)
		require.Equal(w.t, map[string]int{"order.confirmed stream": 1, "order.confirmed email": 1,
			"order.cancelled stream": 1, "order.cancelled email": 1}, w.news())

		again := w.admit("ann", 3)
		w.work()
		require.Equal(w.t, order.Confirmed, w.rows()[again.ID].Status)
		require.EqualValues(w.t, 7, w.clean().Available)
	})
}

func TestCancelWhatCannotBe(t *testing.T) {
	eachDatabase(t, 10, 1, func(w *world) {
		for _, status := range []string{order.Paid, order.Failed, order.Expired} {
			ticket := w.admit(status, 1)
			w.work()
			require.NoError(w.t, w.db.Write.Model(&order.Row{}).Where("id = ?", ticket.ID).Update("status", status).
				Error)
			require.ErrorIs(w.t, w.cancel(ticket.ID, status), order.ErrNotCancellable)
		}
		require.Equal(w.t, map[string]int{"paid": 1, "failed": 1, "expired": 1}, w.count())

		// Failed in the line: the database has the row as well.
		failed := w.admit("ann", 1)
		b := w.claim(1)
		outcomes, err := w.fulfiller.Bury(w.ctx, b, "gave up")
		require.NoError(w.t, err)
		w.settle(b, byID(outcomes))
		require.ErrorIs(w.t, w.cancel(failed.ID, "ann"), order.ErrNotCancellable)
	})
}

func TestCancelWhileAWorkerHasIt(t *testing.T) {
	eachDatabase(t, 10, 1, func(w *world) {
		ticket := w.admit("ann", 1)
		b := w.claim(1)
		outcomes := w.handle(b) // before: a cancel waits for seconds only, and a slow machine takes them
		cancelled := make(chan error, 1)
		go func() { cancelled <- w.cancel(ticket.ID, "ann") }()
		select {
		case err := <-cancelled:
			require.Fail(w.t, "cancelled while a worker had it", "%v", err)
		case <-time.After(60 * time.Millisecond): // some polls
		}
		w.settle(b, outcomes)
		require.NoError(w.t, <-cancelled)
		require.Equal(w.t, map[string]int{"cancelled": 1}, w.count())
		require.EqualValues(w.t, 10, w.clean().LineStock)
	})
}

func TestCancelGivesUpOnABusyWorker(t *testing.T) {
	w := onSQLite(t, 10, 1)
	ticket := w.admit("ann", 1)
	b := w.claim(1)
	started := time.Now()
	require.ErrorIs(t, w.cancel(ticket.ID, "ann"), order.ErrBusy)
	require.Less(t, time.Since(started), 6*time.Second)
	w.settle(b, w.handle(b))
	require.Equal(t, map[string]int{"confirmed": 1}, w.count())

	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.Error(t, w.canceller.Cancel(ctx, theSale, ticket.ID, "ann"))
	require.NoError(t, w.cancel(ticket.ID, "ann"))
}

// The reply of a commit is lost, so that its tickets go back into the line, and then the line is rebuilt: the order is
// still listed, and is cancelled as the order it is.
func TestCancelOfAnOrderThatARebuildFoundListed(t *testing.T) {
	eachDatabase(t, 10, 1, func(w *world) {
		ticket := w.admit("ann", 1)
		b := w.claim(1)
		w.handle(b)
		w.settle(b, map[string]queue.Outcome{ticket.ID: {ID: ticket.ID, Op: queue.OpBack}})
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
		require.EqualValues(w.t, 9, w.clean().LineStock)
		require.NoError(w.t, w.cancel(ticket.ID, "ann"))
		require.Equal(w.t, map[string]int{"cancelled": 1}, w.count())
		require.EqualValues(w.t, 10, w.clean().LineStock)
		w.work()
		require.Equal(w.t, map[string]int{"cancelled": 1}, w.count())
		require.EqualValues(w.t, 10, w.clean().LineStock)
	})
}

// The process dies between the commit and the line: any reconciler, and two of
// them at once, bring the units back exactly once.
func TestUnitsComeBackAfterACrash(t *testing.T) {
	eachDatabase(t, 50, 2, func(w *world) {
		const orders = 12
		var ids []string
		for n := range orders {
			ids = append(ids, w.admit(fmt.Sprintf("user-%d", n), 2).ID)
		}
		w.work()
		nowhere := dial(w.t, "127.0.0.1:1")
		log := slog.New(slog.DiscardHandler)
		crashes := order.NewCanceller(order.CancellerParts{
			DB: w.db, Lines: w.lines,
			Reconciler: inventory.NewReconciler(w.db, queue.NewLines(nowhere, queue.DefaultPrefix), 100, log, time.Now),
			Channels:   channels, OnCommit: func() {}, Log: log, Now: time.Now,
		})
		for n, id := range ids {
			require.NoError(w.t, crashes.Cancel(w.ctx, theSale, id, fmt.Sprintf("user-%d", n)))
		}
		require.EqualValues(w.t, 50, w.available())
		require.EqualValues(w.t, 50-2*orders, w.view().Stock, "the line does not know yet")
		w.clean() // units on their way back are no difference

		second := inventory.NewReconciler(w.db, w.lines, 100, log, time.Now)
		var reconcilers sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			k := []*inventory.Reconciler{w.reconciler, second}[i%2]
			reconcilers.Go(func() { errs[i] = k.Release(w.ctx, theSale) })
		}
		reconcilers.Wait()
		require.NoError(w.t, errors.Join(errs...))
		require.EqualValues(w.t, 50, w.view().Stock)
		for _, r := range w.rows() {
			require.Equal(w.t, 1, r.Released)
		}
		require.EqualValues(w.t, 50, w.clean().LineStock)
		w.admit("user-3", 2)
	})
}

// Owner and worker race for the same ticket: whoever wins, the units are
// counted once.
func TestCancelRacesWithFulfilment(t *testing.T) {
	eachDatabase(t, 10, 1, func(w *world) {
		for n := range 80 {
			user := fmt.Sprintf("user-%d", n)
			ticket := w.admit(user, 1)
			var racers sync.WaitGroup
			var cancelled error
			racers.Go(func() {
				if n%3 == 0 {
					_ = w.line.Cancel(w.ctx, ticket.ID, user) // shifts the start a little
				}
				cancelled = w.cancel(ticket.ID, user)
			})
			racers.Go(w.work)
			racers.Wait()
			require.NoError(w.t, cancelled)
			w.work()
			var row order.Row
			require.NoError(w.t, w.db.Read.Take(&row, "id = ?", ticket.ID).Error)
			require.Equal(w.t, order.Cancelled, row.Status)
			if n%20 == 0 {
				w.clean()
			}
		}
		require.EqualValues(w.t, 10, w.available())
		require.EqualValues(w.t, 10, w.view().Stock)
		require.Zero(w.t, w.clean().InFlight)
	})
}

func TestCancelWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Embedded(t).Addr())
	w := newWorld(t, tables.New(t, store.SQLite), proxy.Addr(), 10, 1)
	ticket := w.admit("ann", 1)
	w.work()
	proxy.Cut()
	err := w.cancel(ticket.ID, "ann")
	require.True(t, redis.Unavailable(err), "%v", err)
	require.Equal(t, map[string]int{"confirmed": 1}, w.count())
	require.NoError(t, proxy.Heal())
	require.NoError(t, w.cancel(ticket.ID, "ann"))
	w.clean()
}
