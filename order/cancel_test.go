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
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/inventory/reconcile"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

func TestCancelWaitingTicket(t *testing.T) {
	orders.EachDatabase(t, 10, 1, func(w *orders.World) {
		first := w.Admit("ann", 1)
		require.ErrorIs(w.T, w.Cancel(first.ID, "bob"), order.ErrNotFound)
		require.ErrorIs(w.T, w.Cancel("order-9999", "ann"), order.ErrNotFound)
		require.EqualValues(w.T, 9, w.View().Stock)
		require.NoError(w.T, w.Cancel(first.ID, "ann"))
		require.EqualValues(w.T, 10, w.View().Stock)
		require.NoError(w.T, w.Cancel(first.ID, "ann"), "twice is no error, before a worker has recorded it")
		require.ErrorIs(w.T, w.Cancel(first.ID, "bob"), order.ErrNotFound)

		second := w.Admit("ann", 1)
		w.Work()
		require.NoError(w.T, w.Cancel(first.ID, "ann"), "nor after")
		require.Equal(w.T, map[string]int{"confirmed": 1, "cancelled": 1}, w.Count())
		require.Equal(w.T, order.Confirmed, w.Rows()[second.ID].Status)
		require.EqualValues(w.T, 9, w.Available())
		require.EqualValues(w.T, 9, w.View().Stock)
		w.Clean()
	})
}

func TestCancelConfirmedOrder(t *testing.T) {
	orders.EachDatabase(t, 10, 3, func(w *orders.World) {
		first := w.Admit("ann", 3)
		w.Work()
		require.EqualValues(w.T, 7, w.Available())
		require.ErrorIs(w.T, w.Cancel(first.ID, "bob"), order.ErrNotFound)
		require.ErrorIs(w.T, w.Canceller.Cancel(w.Ctx, "other", first.ID, "ann"), order.ErrNotFound)
		for range 3 {
			require.NoError(w.T, w.Cancel(first.ID, "ann"))
			require.EqualValues(w.T, 10, w.Available())
			require.EqualValues(w.T, 10, w.View().Stock)
			w.Clean()
		}
		row := w.Rows()[first.ID]
		require.Equal(w.T, order.Cancelled, row.Status)
		require.Nil(w.T, row.Slot)
		require.Equal(w.T, 1, row.Released)
		require.Positive(w.T, row.EndedAt)
		require.Equal(w.T, map[string]int{"order.confirmed stream": 1, "order.confirmed email": 1,
			"order.cancelled stream": 1, "order.cancelled email": 1}, w.News())

		again := w.Admit("ann", 3)
		w.Work()
		require.Equal(w.T, order.Confirmed, w.Rows()[again.ID].Status)
		require.EqualValues(w.T, 7, w.Clean().Available)
	})
}

func TestCancelWhatCannotBe(t *testing.T) {
	orders.EachDatabase(t, 10, 1, func(w *orders.World) {
		for _, status := range []string{order.Paid, order.Failed, order.Expired} {
			ticket := w.Admit(status, 1)
			w.Work()
			require.NoError(w.T, w.DB.Write.Model(&order.Row{}).Where("id = ?", ticket.ID).Update("status", status).
				Error)
			require.ErrorIs(w.T, w.Cancel(ticket.ID, status), order.ErrNotCancellable)
		}
		require.Equal(w.T, map[string]int{"paid": 1, "failed": 1, "expired": 1}, w.Count())

		// Failed in the line: the database has the row as well.
		failed := w.Admit("ann", 1)
		b := w.Claim(1)
		outcomes, err := w.Fulfiller.Bury(w.Ctx, b, "gave up")
		require.NoError(w.T, err)
		w.Settle(b, orders.ByID(outcomes))
		require.ErrorIs(w.T, w.Cancel(failed.ID, "ann"), order.ErrNotCancellable)
	})
}

func TestCancelWhileAWorkerHasIt(t *testing.T) {
	orders.EachDatabase(t, 10, 1, func(w *orders.World) {
		ticket := w.Admit("ann", 1)
		b := w.Claim(1)
		outcomes := w.Handle(b) // before: a cancel waits for seconds only, and a slow machine takes them
		cancelled := make(chan error, 1)
		go func() { cancelled <- w.Cancel(ticket.ID, "ann") }()
		select {
		case err := <-cancelled:
			require.Fail(w.T, "cancelled while a worker had it", "%v", err)
		case <-time.After(60 * time.Millisecond): // some polls
		}
		w.Settle(b, outcomes)
		require.NoError(w.T, <-cancelled)
		require.Equal(w.T, map[string]int{"cancelled": 1}, w.Count())
		require.EqualValues(w.T, 10, w.Clean().LineStock)
	})
}

func TestCancelGivesUpOnABusyWorker(t *testing.T) {
	w := orders.OnSQLite(t, 10, 1)
	ticket := w.Admit("ann", 1)
	b := w.Claim(1)
	started := time.Now()
	require.ErrorIs(t, w.Cancel(ticket.ID, "ann"), order.ErrBusy)
	require.Less(t, time.Since(started), 6*time.Second)
	w.Settle(b, w.Handle(b))
	require.Equal(t, map[string]int{"confirmed": 1}, w.Count())

	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.Error(t, w.Canceller.Cancel(ctx, orders.Sale, ticket.ID, "ann"))
	require.NoError(t, w.Cancel(ticket.ID, "ann"))
}

// The reply of a commit is lost, so that its tickets go back into the line, and then the line is rebuilt. The order is
// still listed, and is cancelled as the order it is.
func TestCancelOfAnOrderThatARebuildFoundListed(t *testing.T) {
	orders.EachDatabase(t, 10, 1, func(w *orders.World) {
		ticket := w.Admit("ann", 1)
		b := w.Claim(1)
		w.Handle(b)
		w.Settle(b, map[string]queue.Outcome{ticket.ID: {ID: ticket.ID, Op: queue.OpBack}})
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		require.EqualValues(w.T, 9, w.Clean().LineStock)
		require.NoError(w.T, w.Cancel(ticket.ID, "ann"))
		require.Equal(w.T, map[string]int{"cancelled": 1}, w.Count())
		require.EqualValues(w.T, 10, w.Clean().LineStock)
		w.Work()
		require.Equal(w.T, map[string]int{"cancelled": 1}, w.Count())
		require.EqualValues(w.T, 10, w.Clean().LineStock)
	})
}

// The process dies between the commit and the line: any reconciler, and two of
// them at once, bring the units back exactly once.
func TestUnitsComeBackAfterACrash(t *testing.T) {
	orders.EachDatabase(t, 50, 2, func(w *orders.World) {
		const many = 12
		var ids []string
		for n := range many {
			ids = append(ids, w.Admit(fmt.Sprintf("user-%d", n), 2).ID)
		}
		w.Work()
		nowhere := testkit.ProductClient(w.T, "127.0.0.1:1")
		log := slog.New(slog.DiscardHandler)
		crashes := order.NewCanceller(order.CancellerParts{
			DB: w.DB, Lines: w.Lines,
			Reconciler: reconcile.New(w.DB, queue.NewLines(nowhere, queue.DefaultPrefix), 100, log, time.Now),
			Channels:   orders.Channels(), OnCommit: func() {}, Log: log, Now: time.Now,
		})
		for n, id := range ids {
			require.NoError(w.T, crashes.Cancel(w.Ctx, orders.Sale, id, fmt.Sprintf("user-%d", n)))
		}
		require.EqualValues(w.T, 50, w.Available())
		require.EqualValues(w.T, 50-2*many, w.View().Stock, "the line does not know yet")
		w.Clean() // units on their way back are no difference

		second := reconcile.New(w.DB, w.Lines, 100, log, time.Now)
		var reconcilers sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			k := []*reconcile.Reconciler{w.Reconciler, second}[i%2]
			reconcilers.Go(func() { errs[i] = k.Release(w.Ctx, orders.Sale) })
		}
		reconcilers.Wait()
		require.NoError(w.T, errors.Join(errs...))
		require.EqualValues(w.T, 50, w.View().Stock)
		for _, r := range w.Rows() {
			require.Equal(w.T, 1, r.Released)
		}
		require.EqualValues(w.T, 50, w.Clean().LineStock)
		w.Admit("user-3", 2)
	})
}

// Owner and worker race for the same ticket: whoever wins, the units are
// counted once.
func TestCancelRacesWithFulfilment(t *testing.T) {
	orders.EachDatabase(t, 10, 1, func(w *orders.World) {
		for n := range 80 {
			user := fmt.Sprintf("user-%d", n)
			ticket := w.Admit(user, 1)
			var racers sync.WaitGroup
			var cancelled error
			racers.Go(func() {
				if n%3 == 0 {
					_ = w.Line.Cancel(w.Ctx, ticket.ID, user) // shifts the start a little
				}
				cancelled = w.Cancel(ticket.ID, user)
			})
			racers.Go(w.Work)
			racers.Wait()
			require.NoError(w.T, cancelled)
			w.Work()
			var row order.Row
			require.NoError(w.T, w.DB.Read.Take(&row, "id = ?", ticket.ID).Error)
			require.Equal(w.T, order.Cancelled, row.Status)
			if n%20 == 0 {
				w.Clean()
			}
		}
		require.EqualValues(w.T, 10, w.Available())
		require.EqualValues(w.T, 10, w.View().Stock)
		require.Zero(w.T, w.Clean().InFlight)
	})
}

func TestCancelWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Embedded(t).Addr())
	w := orders.New(t, tables.New(t, store.SQLite), proxy.Addr(), 10, 1)
	ticket := w.Admit("ann", 1)
	w.Work()
	proxy.Cut()
	err := w.Cancel(ticket.ID, "ann")
	require.True(t, redis.Unavailable(err), "%v", err)
	require.Equal(t, map[string]int{"confirmed": 1}, w.Count())
	require.NoError(t, proxy.Heal())
	require.NoError(t, w.Cancel(ticket.ID, "ann"))
	w.Clean()
}
