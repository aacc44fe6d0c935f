package reconcile_test

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

// everything promised before is an order now, and nothing more.
func finishAll(w *orders.World, c orders.Places) {
	w.T.Helper()
	for range 20 {
		w.WorkOff(50)
	}
	for _, t := range append(append(append([]queue.Ticket{}, c.Waiting...), c.Leased...), c.Live...) {
		known, _, err := w.Line.Lookup(w.Ctx, []string{t.ID})
		require.NoError(w.T, err)
		require.Equal(w.T, queue.Confirmed, known[t.ID].State, "%s of %s", t.ID, t.User)
	}
	w.Clean()
}

// reconcilerOn returns the reconciler of another instance, with a client of its own.
func reconcilerOn(w *orders.World, rdb goredis.UniversalClient) *reconcile.Reconciler {
	return reconcile.New(w.DB, queue.NewLines(rdb, queue.DefaultPrefix), orders.Cap, slog.New(slog.DiscardHandler),
		w.Clock.Now)
}

func TestRedisEmptied(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		c := w.Fill()
		require.NoError(w.T, w.Redis.FlushAll(w.Ctx).Err())
		_, err := w.Ask("ann", 1)
		require.ErrorIs(w.T, err, queue.ErrNotReady)
		w.CatchUp()
		v := w.View()
		require.EqualValues(w.T, 93, v.Stock, "tickets are lost with Redis, orders are not")
		require.EqualValues(w.T, 2, v.Epoch)
		require.Zero(w.T, v.Waiting+v.Isolated+v.Leased+v.Retrying)
		require.EqualValues(w.T, 7, w.Clean().Live)

		a, err := w.Ask("big", 1)
		require.NoError(w.T, err)
		require.Equal(w.T, queue.LimitError{OrderID: c.Live[4].ID}, a.Err, "who holds an order is told so")
		a, err = w.Ask(c.Live[0].User, 3)
		require.NoError(w.T, err)
		require.ErrorAs(w.T, a.Err, &queue.LimitError{})
		fresh := w.Admit("gone", 2)
		require.Greater(w.T, fresh.Seq, int64(6), "the sequence goes on where the ledger ends")
		again := w.Admit(c.Waiting[0].User, 1)

		// The worker that slept through it all must not add orders now.
		_, err = w.Fulfiller.Handle(w.Ctx, c.Batch)
		require.ErrorIs(w.T, err, inventory.ErrStale)
		require.ErrorIs(w.T, w.Line.Settle(w.Ctx, c.Batch, nil), queue.ErrFenced)
		finishAll(w, orders.Places{Live: c.Live, Waiting: []queue.Ticket{fresh, again}})
		require.EqualValues(w.T, 10, w.Clean().Live)
	})
}

// Redis keeps the tickets and loses what counts them; and an operator rebuilds
// a line in which nothing is wrong.
func TestRebuildCountsSurvivors(t *testing.T) {
	losses := map[string][]string{
		"nothing":          nil,
		"meta":             {"meta"},
		"numbers":          {"meta", "stock", "holders"},
		"lists and leases": {"meta", "wait", "lease", "leased", "retry"},
		"all but the orders": {"meta", "stock", "holders", "wait", "suspect", "lease", "leased", "retry", "attempts",
			"done"},
	}
	for loss, names := range losses {
		t.Run(loss, func(t *testing.T) {
			orders.EachEmpty(t, func(w *orders.World) {
				c := w.Fill()
				for _, name := range names {
					require.NoError(w.T, w.Redis.Del(w.Ctx, orders.Key(name)).Err())
				}
				if loss == "nothing" {
					require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
				}
				w.CatchUp()
				require.EqualValues(w.T, 81, w.View().Stock, "93 in the ledger, 12 promised to tickets")
				r := w.Clean()
				require.EqualValues(w.T, 12, r.InFlight)
				require.EqualValues(w.T, 7, r.Live)
				for _, user := range []string{"big", "big2"} {
					a, err := w.Ask(user, 1)
					require.NoError(w.T, err)
					require.ErrorAs(w.T, a.Err, &queue.LimitError{}, user)
				}
				fresh := w.Admit("fresh", 1)
				require.Greater(w.T, fresh.Seq, c.Waiting[3].Seq)
				_, err := w.Fulfiller.Handle(w.Ctx, c.Batch)
				require.ErrorIs(w.T, err, inventory.ErrStale)
				require.ErrorIs(w.T, w.Line.Settle(w.Ctx, c.Batch, nil), queue.ErrFenced)
				finishAll(w, c)
				require.EqualValues(w.T, 20, w.Clean().Live)
			})
		})
	}
}

// The worker committed, its settle was lost with a rebuild in between.
func TestRebuildBetweenCommitAndSettle(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(10, 1)
		tickets := w.AdmitMany(3)
		b := w.Claim(3)
		_, err := w.Fulfiller.Handle(w.Ctx, b)
		require.NoError(w.T, err)
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		require.NoError(w.T, w.Cache.Refresh(w.Ctx))
		require.EqualValues(w.T, 7, w.View().Stock)
		w.Clean()
		finishAll(w, orders.Places{Live: tickets})
		require.EqualValues(w.T, 3, w.Clean().Live)
	})
}

func TestRedisRestarts(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	w := orders.NewEmpty(t, tables.New(t, store.SQLite), server.Addr())
	c := w.Fill()
	server.Kill()
	require.True(t, redis.Unavailable(w.Reconciler.Reconcile(w.Ctx)))
	server.Start()
	var err error
	require.Eventually(t, func() bool {
		_, err = w.Ask("early", 1)
		return !redis.Unavailable(err)
	}, orders.Soon, 10*time.Millisecond)
	require.ErrorIs(t, err, queue.ErrNotReady, "nobody has compared the line with the ledger")
	w.CatchUp()
	w.Clean()
	w.Admit("late", 1)
	finishAll(w, c)
	require.EqualValues(t, 20, w.Clean().Live)
}

func TestRedisLosesItsFiles(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t, "--appendonly", "no")
	w := orders.NewEmpty(t, tables.New(t, store.SQLite), server.Addr())
	c := w.Fill()
	server.Kill()
	server.Start()
	var err error
	require.Eventually(t, func() bool {
		_, err = w.Ask("early", 1)
		return !redis.Unavailable(err)
	}, orders.Soon, 10*time.Millisecond)
	require.ErrorIs(t, err, queue.ErrNotReady)
	w.CatchUp()
	require.EqualValues(t, 93, w.Clean().LineStock)
	a, err := w.Ask("big", 1)
	require.NoError(t, err)
	require.Equal(t, queue.LimitError{OrderID: c.Live[4].ID}, a.Err)
}

// Each line is compared by itself: one that cannot be rebuilt yet keeps nobody else out.
func TestEachLineIsVerifiedByItself(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(10, 1)
	w.Create(orders.NewSale("second", 10, 1))
	w.CatchUp()
	require.NoError(t, w.Cache.Ready(w.Ctx))
	// As after a restart: both were last compared on another server.
	for _, sale := range []string{orders.Sale, "second"} {
		require.NoError(t, w.Redis.HSet(w.Ctx, "sluice:{"+sale+"/0}:meta", "run", "another").Err())
	}
	_, err := w.Ask("ann", 1)
	require.ErrorIs(t, err, queue.ErrNotReady)
	w.Exec("UPDATE sales SET rebuild_until = ? WHERE id = 'second'", w.Clock.Now().Add(reconcile.RebuildLease).
		UnixMilli())
	require.ErrorIs(t, w.Reconciler.Reconcile(w.Ctx), inventory.ErrBusy)
	w.Admit("ann", 1)
	require.ErrorContains(t, w.Cache.Ready(w.Ctx), "second")
	require.False(t, viewOf(w, "second").Verified)
	w.Exec("UPDATE sales SET rebuild_until = 0 WHERE id = 'second'")
	w.CatchUp()
	require.True(t, viewOf(w, "second").Verified)
	require.NoError(t, w.Cache.Ready(w.Ctx))
}

func viewOf(w *orders.World, sale string) queue.View {
	w.T.Helper()
	v, err := w.Lines.Of(sale).View(w.Ctx)
	require.NoError(w.T, err)
	return v
}

func TestTwoReconcilersAtOnce(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		c := w.Fill()
		for round := range 5 {
			if round%2 == 0 {
				require.NoError(w.T, w.Redis.Del(w.Ctx, orders.Key("meta"), orders.Key("stock")).Err())
			} else {
				require.NoError(w.T, w.Redis.HSet(w.Ctx, orders.Key("meta"), "run", "another").Err())
			}
			reconcilers := []*reconcile.Reconciler{w.Reconciler, w.OtherReconciler(w.Clock), w.OtherReconciler(w.Clock)}
			errs := make([]error, len(reconcilers))
			var running sync.WaitGroup
			for i, k := range reconcilers {
				running.Go(func() { errs[i] = k.SyncLine(w.Ctx, orders.Sale) })
			}
			running.Wait()
			require.NoError(w.T, errors.Join(errs...))
			require.EqualValues(w.T, 81, w.View().Stock)
			w.Clean()
		}
		require.NoError(w.T, w.Cache.Refresh(w.Ctx))
		finishAll(w, c)
	})
}

// A clock that was hours ahead reserved a rebuild and died: nobody waits hours.
func TestReservationOfAWrongClock(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(10, 1)
	w.Exec("UPDATE sales SET rebuild_until = ?", w.Clock.Now().Add(5*time.Hour).UnixMilli())
	require.NoError(t, w.Redis.FlushAll(w.Ctx).Err())
	w.CatchUp()
	require.True(t, w.View().Exists)
	w.Clean()
	require.ErrorIs(t, w.Reconciler.Rebuild(w.Ctx, "nowhere"), inventory.ErrNoSale)
}
