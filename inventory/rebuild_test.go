package inventory_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

// crowd is a line with tickets in every place they can be.
type shoppers struct {
	live, waiting, leased, retrying []queue.Ticket
	cancelled                       queue.Ticket
	batch                           queue.Batch
}

// settleAs ends a claimed batch with one outcome for all.
func (w *world) settleAs(b queue.Batch, op queue.Op) {
	w.t.Helper()
	var outcomes []queue.Outcome
	for _, t := range b.Tickets {
		outcomes = append(outcomes, queue.Outcome{ID: t.ID, Op: op, Delay: time.Hour})
	}
	require.NoError(w.t, w.line.Settle(w.ctx, b, outcomes))
}

// fill makes a sale of 100 units with 6 live orders, one of them cancelled in
// the database and not yet released, and 10 tickets of which one is cancelled.
func (w *world) fill() shoppers {
	w.t.Helper()
	w.open(100, 3)
	var c shoppers
	c.live = append(w.admitMany(4), w.admit("big", 3))
	gone := w.admit("gone", 2)
	w.work(6)
	w.exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0, ended_at = 1 WHERE id = ?", gone.ID)
	w.exec("UPDATE stock SET available = available + 2 WHERE sale_id = ?", theSale)
	c.retrying = w.admitMany(2)
	w.settleAs(w.claim(2), queue.OpRetry)
	c.leased = append(w.admitMany(2), w.admit("leaser", 2))
	c.batch = w.claim(3)
	c.cancelled = w.admit("quitter", 1)
	require.NoError(w.t, w.line.Cancel(w.ctx, c.cancelled.ID, "quitter"))
	c.waiting = append(w.admitMany(3), w.admit("big2", 3))
	require.EqualValues(w.t, 93, w.clean().Available)
	require.EqualValues(w.t, 12, w.clean().InFlight)
	return c
}

// everything promised before is an order now, and nothing more.
func (w *world) finishAll(c shoppers) {
	w.t.Helper()
	for range 20 {
		w.work(50)
	}
	for _, t := range append(append(append([]queue.Ticket{}, c.waiting...), c.leased...), c.live...) {
		known, _, err := w.line.Lookup(w.ctx, []string{t.ID})
		require.NoError(w.t, err)
		require.Equal(w.t, queue.Confirmed, known[t.ID].State, "%s of %s", t.ID, t.User)
	}
	w.clean()
}

func TestRedisEmptied(t *testing.T) {
	eachDatabase(t, func(w *world) {
		c := w.fill()
		require.NoError(w.t, w.rdb.FlushAll(w.ctx).Err())
		_, err := w.try("ann", 1)
		require.ErrorIs(w.t, err, queue.ErrNotReady)
		w.keep()
		v := w.view()
		require.EqualValues(w.t, 93, v.Stock, "tickets are lost with Redis, orders are not")
		require.EqualValues(w.t, 2, v.Epoch)
		require.Zero(w.t, v.Waiting+v.Isolated+v.Leased+v.Retrying)
		require.EqualValues(w.t, 7, w.clean().Live)

		a, err := w.try("big", 1)
		require.NoError(w.t, err)
		require.Equal(w.t, queue.LimitError{OrderID: c.live[4].ID}, a.Err, "who holds an order is told so")
		a, err = w.try(c.live[0].User, 3)
		require.NoError(w.t, err)
		require.ErrorAs(w.t, a.Err, &queue.LimitError{})
		fresh := w.admit("gone", 2)
		require.Greater(w.t, fresh.Seq, int64(6), "the sequence goes on where the ledger ends")
		again := w.admit(c.waiting[0].User, 1)

		// The worker that slept through it all must not add orders now.
		_, err = w.fulfiller.Handle(w.ctx, c.batch)
		require.ErrorIs(w.t, err, inventory.ErrStale)
		require.ErrorIs(w.t, w.line.Settle(w.ctx, c.batch, nil), queue.ErrFenced)
		w.finishAll(shoppers{live: c.live, waiting: []queue.Ticket{fresh, again}})
		require.EqualValues(w.t, 10, w.clean().Live)
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
			eachDatabase(t, func(w *world) {
				c := w.fill()
				for _, name := range names {
					require.NoError(w.t, w.rdb.Del(w.ctx, key(name)).Err())
				}
				if loss == "nothing" {
					require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
				}
				w.keep()
				require.EqualValues(w.t, 81, w.view().Stock, "93 in the ledger, 12 promised to tickets")
				r := w.clean()
				require.EqualValues(w.t, 12, r.InFlight)
				require.EqualValues(w.t, 7, r.Live)
				for _, user := range []string{"big", "big2"} {
					a, err := w.try(user, 1)
					require.NoError(w.t, err)
					require.ErrorAs(w.t, a.Err, &queue.LimitError{}, user)
				}
				fresh := w.admit("fresh", 1)
				require.Greater(w.t, fresh.Seq, c.waiting[3].Seq)
				_, err := w.fulfiller.Handle(w.ctx, c.batch)
				require.ErrorIs(w.t, err, inventory.ErrStale)
				require.ErrorIs(w.t, w.line.Settle(w.ctx, c.batch, nil), queue.ErrFenced)
				w.finishAll(c)
				require.EqualValues(w.t, 20, w.clean().Live)
			})
		})
	}
}

// The worker committed, its settle was lost with a rebuild in between.
func TestRebuildBetweenCommitAndSettle(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(10, 1)
		tickets := w.admitMany(3)
		b := w.claim(3)
		_, err := w.fulfiller.Handle(w.ctx, b)
		require.NoError(w.t, err)
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
		require.NoError(w.t, w.cache.Refresh(w.ctx))
		require.EqualValues(w.t, 7, w.view().Stock)
		w.clean()
		w.finishAll(shoppers{live: tickets})
		require.EqualValues(w.t, 3, w.clean().Live)
	})
}

func TestRedisRestarts(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	w := newWorld(t, tables.New(t, store.SQLite), server.Addr())
	c := w.fill()
	server.Kill()
	require.True(t, redis.Unavailable(w.reconciler.Reconcile(w.ctx)))
	server.Start()
	var err error
	require.Eventually(t, func() bool {
		_, err = w.try("early", 1)
		return !redis.Unavailable(err)
	}, soon, 10*time.Millisecond)
	require.ErrorIs(t, err, queue.ErrNotReady, "nobody has compared the line with the ledger")
	w.keep()
	w.clean()
	w.admit("late", 1)
	w.finishAll(c)
	require.EqualValues(t, 20, w.clean().Live)
}

func TestRedisLosesItsFiles(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t, "--appendonly", "no")
	w := newWorld(t, tables.New(t, store.SQLite), server.Addr())
	c := w.fill()
	server.Kill()
	server.Start()
	var err error
	require.Eventually(t, func() bool {
		_, err = w.try("early", 1)
		return !redis.Unavailable(err)
	}, soon, 10*time.Millisecond)
	require.ErrorIs(t, err, queue.ErrNotReady)
	w.keep()
	require.EqualValues(t, 93, w.clean().LineStock)
	a, err := w.try("big", 1)
	require.NoError(t, err)
	require.Equal(t, queue.LimitError{OrderID: c.live[4].ID}, a.Err)
}

// Each line is compared by itself: one that cannot be rebuilt yet keeps nobody else out.
func TestEachLineIsVerifiedByItself(t *testing.T) {
	w := onSQLite(t)
	w.open(10, 1)
	w.create(newSale("second", 10, 1))
	w.keep()
	require.NoError(t, w.cache.Ready(w.ctx))
	// As after a restart: both were last compared on another server.
	for _, sale := range []string{theSale, "second"} {
		require.NoError(t, w.rdb.HSet(w.ctx, "sluice:{"+sale+"/0}:meta", "run", "another").Err())
	}
	_, err := w.try("ann", 1)
	require.ErrorIs(t, err, queue.ErrNotReady)
	w.exec("UPDATE sales SET rebuild_until = ? WHERE id = 'second'", w.clock.Now().Add(inventory.RebuildLease).
		UnixMilli())
	require.ErrorIs(t, w.reconciler.Reconcile(w.ctx), inventory.ErrBusy)
	w.admit("ann", 1)
	require.ErrorContains(t, w.cache.Ready(w.ctx), "second")
	require.False(t, w.viewOf("second").Verified)
	w.exec("UPDATE sales SET rebuild_until = 0 WHERE id = 'second'")
	w.keep()
	require.True(t, w.viewOf("second").Verified)
	require.NoError(t, w.cache.Ready(w.ctx))
}

func (w *world) viewOf(sale string) queue.View {
	w.t.Helper()
	v, err := w.lines.Of(sale).View(w.ctx)
	require.NoError(w.t, err)
	return v
}

func TestTwoKeepersAtOnce(t *testing.T) {
	eachDatabase(t, func(w *world) {
		c := w.fill()
		for round := range 5 {
			if round%2 == 0 {
				require.NoError(w.t, w.rdb.Del(w.ctx, key("meta"), key("stock")).Err())
			} else {
				require.NoError(w.t, w.rdb.HSet(w.ctx, key("meta"), "run", "another").Err())
			}
			reconcilers := []*inventory.Reconciler{w.reconciler, w.newReconciler(w.clock), w.newReconciler(w.clock)}
			errs := make([]error, len(reconcilers))
			var running sync.WaitGroup
			for i, k := range reconcilers {
				running.Go(func() { errs[i] = k.SyncLine(w.ctx, theSale) })
			}
			running.Wait()
			require.NoError(w.t, errors.Join(errs...))
			require.EqualValues(w.t, 81, w.view().Stock)
			w.clean()
		}
		require.NoError(w.t, w.cache.Refresh(w.ctx))
		w.finishAll(c)
	})
}

// after runs a function once, when the first call of a script has been answered.
type after struct {
	second *atomic.Int64 // counts the looks
	then   func()
}

func (a after) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (a after) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "evalsha" && !goredis.HasErrorPrefix(err, "NOSCRIPT") {
			if a.second.Add(1) == 2 { // the first is one at all lines
				a.then()
			}
		}
		return err
	}
}

func (a after) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

// Who saw a line that was missing, and comes to it when another has rebuilt it, leaves it as it is.
func TestALineIsRebuiltOnceForOneLoss(t *testing.T) {
	eachDatabase(t, func(w *world) {
		c := w.fill()
		require.NoError(w.t, w.rdb.Del(w.ctx, key("meta"), key("stock")).Err())
		late := *w
		late.rdb = dial(w.t, w.rdb.Options().Addr)
		late.lines = queue.NewLines(late.rdb, queue.DefaultPrefix)
		var rebuilt int64
		late.rdb.AddHook(after{new(atomic.Int64), func() {
			require.NoError(w.t, w.reconciler.Reconcile(w.ctx))
			rebuilt = w.view().Epoch
		}})
		require.ErrorIs(w.t, late.newReconciler(w.clock).Reconcile(w.ctx), inventory.ErrBusy)
		require.NotZero(w.t, rebuilt)
		require.Equal(w.t, rebuilt, w.view().Epoch)
		require.False(w.t, w.view().Rebuilding)
		require.NoError(w.t, w.cache.Refresh(w.ctx))
		w.clean()
		w.finishAll(c)
	})
}

// stopAt calls do once, before a command is sent.
type stopAt struct {
	command string
	do      func()
}

func (s *stopAt) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (s *stopAt) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if cmd.Name() == s.command && s.do != nil {
			do := s.do
			s.do = nil
			do()
		}
		return next(ctx, cmd)
	}
}

func (s *stopAt) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

// Who saw a line that was being rebuilt, and comes to it when that is done, leaves it as it is.
func TestALineThatIsBeingRebuiltIsNotRebuiltAgain(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(10, 1)
		require.NoError(w.t, w.rdb.Del(w.ctx, key("meta"), key("stock")).Err())
		begun, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error)
		w.rdb.AddHook(&stopAt{"hscan", func() {
			close(begun)
			<-goOn
		}})
		go func() { done <- w.reconciler.Reconcile(w.ctx) }()
		<-begun
		late := *w
		late.rdb = dial(w.t, w.rdb.Options().Addr)
		late.lines = queue.NewLines(late.rdb, queue.DefaultPrefix)
		late.rdb.AddHook(after{new(atomic.Int64), func() {
			close(goOn)
			require.NoError(w.t, <-done)
		}})
		require.ErrorIs(w.t, late.newReconciler(w.clock).Reconcile(w.ctx), inventory.ErrBusy)
		require.EqualValues(w.t, 2, w.view().Epoch)
		w.clean()
	})
}

// dieAt cancels a context when a command is about to be sent.
type dieAt struct {
	command string
	die     context.CancelFunc
}

func (d dieAt) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (d dieAt) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if cmd.Name() == d.command {
			d.die()
			<-ctx.Done()
			return ctx.Err()
		}
		return next(ctx, cmd)
	}
}

func (d dieAt) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

func TestRebuildThatDiesIsFinishedByAnother(t *testing.T) {
	for _, command := range []string{"hscan", "lrange", "hget"} {
		t.Run(command, func(t *testing.T) {
			eachDatabase(t, func(w *world) {
				c := w.fill()
				dying := *w
				dying.rdb = dial(w.t, w.rdb.Options().Addr)
				dying.lines = queue.NewLines(dying.rdb, queue.DefaultPrefix)
				ctx, die := context.WithCancel(w.ctx)
				dying.rdb.AddHook(dieAt{command: command, die: die})
				require.Error(w.t, dying.newReconciler(w.clock).Rebuild(ctx, theSale))
				require.True(w.t, w.view().Rebuilding)
				_, err := w.try("ann", 1)
				require.ErrorIs(w.t, err, queue.ErrNotReady)

				other := testkit.NewClock(w.clock.Now())
				heir := w.newReconciler(other)
				require.ErrorIs(w.t, heir.Reconcile(w.ctx), inventory.ErrBusy)
				other.Advance(inventory.RebuildLease - time.Millisecond)
				require.ErrorIs(w.t, heir.Reconcile(w.ctx), inventory.ErrBusy)
				other.Advance(time.Millisecond)
				require.NoError(w.t, heir.Reconcile(w.ctx))
				require.NoError(w.t, w.cache.Refresh(w.ctx))
				require.False(w.t, w.view().Rebuilding)
				require.EqualValues(w.t, 81, w.view().Stock)
				w.clean()
				w.finishAll(c)
			})
		})
	}
}

// A clock that was hours ahead reserved a rebuild and died: nobody waits hours.
func TestReservationOfAWrongClock(t *testing.T) {
	w := onSQLite(t)
	w.open(10, 1)
	w.exec("UPDATE sales SET rebuild_until = ?", w.clock.Now().Add(5*time.Hour).UnixMilli())
	require.NoError(t, w.rdb.FlushAll(w.ctx).Err())
	w.keep()
	require.True(t, w.view().Exists)
	w.clean()
	require.ErrorIs(t, w.reconciler.Rebuild(w.ctx, "nowhere"), inventory.ErrNoSale)
}
