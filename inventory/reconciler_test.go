package inventory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
)

func TestNewSaleGetsALine(t *testing.T) {
	eachDatabase(t, func(w *world) {
		n := newSale(theSale, 10, 2)
		n.Open = false
		w.create(n)
		require.False(w.t, w.view().Exists)
		_, err := w.try("ann", 1)
		require.ErrorIs(w.t, err, queue.ErrNotReady)
		w.keep()
		v := w.view()
		require.Equal(w.t, []any{true, false, int64(1), int64(1), inventory.Draft, int64(defaultCap), int64(10)},
			[]any{v.Exists, v.Rebuilding, v.Epoch, v.Version, v.State, v.Cap, v.Stock})
		w.keep()
		require.Equal(w.t, v.Epoch, w.view().Epoch, "a line in order is left alone")
		w.clean()
	})
}

func TestChangesArriveInTheLine(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(10, 1)
		w.admitMany(3)
		w.work(1)
		lineCap, limit := 4, 2
		_, _, err := w.saleStore.Update(w.ctx, theSale, inventory.Change{Cap: &lineCap,
			PerUserLimit: &limit}, "test", "")
		require.NoError(w.t, err)
		_, err = w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 5, Actor: "test",
			Reason: "found"})
		require.NoError(w.t, err)
		w.clean() // also while the line does not know
		w.keep()
		require.EqualValues(w.t, 4, w.view().Cap)
		require.EqualValues(w.t, 12, w.view().Stock, "three of fifteen are promised")
		w.clean()
		w.admit("ann", 2)
		a, err := w.try("bob", 3)
		require.NoError(w.t, err)
		require.ErrorAs(w.t, a.Err, &queue.LimitError{})
		w.admit("bob", 2)
		a, err = w.try("cid", 1)
		require.NoError(w.t, err)
		require.ErrorIs(w.t, a.Err, queue.ErrFull)

		_, err = w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: -13, Actor: "test",
			Reason: "lost"})
		require.NoError(w.t, err)
		w.keep()
		require.EqualValues(w.t, -5, w.view().Stock, "tickets in line for units that are gone")
		w.clean()
		w.work(10)
		require.Zero(w.t, w.view().Stock)
		w.clean()

		_, _, err = w.saleStore.SetState(w.ctx, theSale, inventory.Paused, "test", "")
		require.NoError(w.t, err)
		w.keep()
		a, err = w.try("dan", 1)
		require.NoError(w.t, err)
		require.ErrorIs(w.t, a.Err, queue.ErrPaused)
		starts, ends := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		_, _, err = w.saleStore.Update(w.ctx, theSale, inventory.Change{StartsAt: &starts, EndsAt: &ends}, "test", "")
		require.NoError(w.t, err)
		w.keep()
		a, err = w.try("dan", 1)
		require.NoError(w.t, err)
		require.ErrorAs(w.t, a.Err, &queue.NotStartedError{})
		_, _, err = w.saleStore.SetState(w.ctx, theSale, inventory.Closed, "test", "")
		require.NoError(w.t, err)
		w.keep()
		a, err = w.try("dan", 1)
		require.NoError(w.t, err)
		require.ErrorIs(w.t, a.Err, queue.ErrEnded)
	})
}

// Among a thousand sales a change of one does not wait for the others, nor fail with them.
func TestCarryKeepsOneSale(t *testing.T) {
	w := onSQLite(t)
	w.create(newSale("other", 10, 1))
	w.open(10, 1)
	require.NoError(t, w.rdb.Set(w.ctx, "sluice:{other/0}:wait", "no list", 0).Err())
	require.Error(t, w.reconciler.Reconcile(w.ctx))
	_, err := w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 5, Actor: "test",
		Reason: "found"})
	require.NoError(t, err)
	require.NoError(t, w.reconciler.SyncLine(w.ctx, theSale))
	require.EqualValues(t, 15, w.view().Stock)
	require.Error(t, w.reconciler.SyncLine(w.ctx, "other"))

	// Also when Redis has lost everything: the next round looks after the others.
	require.NoError(t, w.rdb.FlushAll(w.ctx).Err())
	require.NoError(t, w.reconciler.SyncLine(w.ctx, theSale))
	views, failed := w.lines.Views(w.ctx, []string{theSale, "other"})
	require.NoError(t, errors.Join(failed...))
	require.True(t, views[0].Verified && !views[1].Exists)
	w.keep()
	require.True(t, w.viewOf("other").Verified)
}

func TestCarryWaitsForAnotherInstance(t *testing.T) {
	w := onSQLite(t)
	w.open(10, 1)
	require.NoError(t, w.rdb.FlushAll(w.ctx).Err())
	w.exec("UPDATE sales SET rebuild_until = ?", w.clock.Now().Add(time.Second).UnixMilli())
	short, cancel := context.WithTimeout(w.ctx, time.Second)
	defer cancel()
	require.ErrorIs(t, w.reconciler.SyncLine(short, theSale), inventory.ErrBusy)
	carried := make(chan error, 1)
	go func() { carried <- w.reconciler.SyncLine(w.ctx, theSale) }()
	w.clock.Advance(2 * time.Second)
	require.NoError(t, <-carried)
	w.clean()
}

// atTime is a world whose Redis clock the test sets.
func atTime(t *testing.T) (*world, *miniredis.Miniredis) {
	t.Helper()
	t.Parallel()
	server := testkit.Embedded(t)
	return newWorld(t, tables.New(t, store.SQLite), server.Addr()), server
}

func TestLineOfAFinishedSaleIsDroppedAfterItsHour(t *testing.T) {
	w, server := atTime(t)
	w.open(10, 1)
	w.admitMany(2)
	sale, _ := w.get()
	at := func(d time.Duration) {
		now := sale.Ends().Add(d)
		server.SetTime(now)
		w.clock.Advance(now.Sub(w.clock.Now()))
		w.keep()
	}
	at(0)
	require.True(t, w.view().Exists)
	at(inventory.LineKept + time.Second)
	require.True(t, w.view().Exists, "tickets are still in it")
	w.work(2)
	at(inventory.LineKept - time.Second)
	require.True(t, w.view().Exists, "its owners still ask")
	at(inventory.LineKept + time.Second)
	require.False(t, w.view().Exists)
	keys, err := w.rdb.Keys(w.ctx, "sluice:{*").Result()
	require.NoError(t, err)
	require.Empty(t, keys)
	at(inventory.LineKept + 2*time.Second)
	require.False(t, w.view().Exists, "and not made again")
	r := w.clean()
	require.False(t, r.LinePresent)
	require.EqualValues(t, 2, r.Live)
}

func TestLineOfAClosedSale(t *testing.T) {
	w, server := atTime(t)
	w.open(10, 1)
	ticket := w.admit("ann", 1)
	w.work(1)
	_, _, err := w.saleStore.SetState(w.ctx, theSale, inventory.Closed, "test", "")
	require.NoError(t, err)
	w.keep()
	w.clock.Advance(inventory.LineKept + time.Minute)
	server.SetTime(w.clock.Now())
	w.keep()
	require.False(t, w.view().Exists)

	// An order that ends now has no line to come back to.
	w.exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0 WHERE id = ?", ticket.ID)
	w.exec("UPDATE stock SET available = available + 1")
	w.keep()
	var left int64
	require.NoError(t, w.db.Read.Table("orders").Where("released = 0").Count(&left).Error)
	require.Zero(t, left)
	w.clean()
}

// A reconciler whose own clock is far ahead must not drop what still sells.
func TestWrongClockDropsNothing(t *testing.T) {
	w := onSQLite(t)
	w.open(10, 1)
	w.clock.Advance(2*time.Hour + 30*time.Minute)
	w.keep()
	require.True(t, w.view().Exists)
	w.admit("ann", 1)
}

func TestReleases(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(2000, 1)
		const ended = 620 // more than one step brings back
		var states []string
		for _, ticket := range w.admitMany(ended) {
			states = append(states, ticket.ID)
		}
		w.work(ended)
		w.exec("UPDATE orders SET status = CASE WHEN seq % 2 = 0 THEN 'expired' ELSE 'cancelled' END, slot = NULL, " +
			"released = 0, ended_at = 1")
		w.exec("UPDATE stock SET available = available + ?", ended)
		require.EqualValues(w.t, 2000-ended, w.view().Stock)
		w.clean()
		for range 3 {
			w.keep()
			w.clean()
		}
		require.EqualValues(w.t, 2000, w.view().Stock)
		known, _, err := w.line.Lookup(w.ctx, states[:2])
		require.NoError(w.t, err)
		require.Equal(w.t, queue.Cancelled, known[states[0]].State)
		require.Equal(w.t, queue.Expired, known[states[1]].State)
		w.admit("user-00001", 1)
	})
}

func TestKeeperRuns(t *testing.T) {
	w := onSQLite(t)
	ctx, stop := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.reconciler.Run(ctx)
	}()
	for n := range 3 {
		id := fmt.Sprintf("sale-%d", n)
		w.create(newSale(id, 1, 1))
		w.reconciler.Wake()
		require.Eventually(t, func() bool {
			v, err := w.lines.Of(id).View(w.ctx)
			return err == nil && v.Exists && !v.Rebuilding
		}, soon, 5*time.Millisecond)
	}
	stop()
	<-ended
}

// beforeDiscard runs something once, right before a line would be deleted.
type beforeDiscard struct {
	once *sync.Once
	run  func()
}

func (b beforeDiscard) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b beforeDiscard) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		// only this script takes all keys of a line
		if strings.HasPrefix(cmd.Name(), "eval") && fmt.Sprint(cmd.Args()[2]) == "16" {
			b.once.Do(b.run)
		}
		return next(ctx, cmd)
	}
}

func (b beforeDiscard) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A reconciler has seen that a sale is over and its line empty; before it deletes the line, somebody extends the sale,
// and an order is accepted. The line stays, and the order in it.
func TestASaleThatIsExtendedKeepsItsLine(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(10, 1)
		over := time.Now().Add(-2 * inventory.LineKept).UnixMilli()
		w.exec("UPDATE sales SET starts_at = 1, ends_at = ?, version = version + 1 WHERE id = ?", over, theSale)
		w.exec("UPDATE sales SET updated_at = ? WHERE id = ?", time.Now().UnixMilli(), theSale)
		require.NoError(t, w.reconciler.SyncLine(w.ctx, "none")) // loads nothing: the line is still as it was
		line := w.lines.Of(theSale)
		settings, _ := w.get()
		require.NoError(t, line.Configure(w.ctx, queue.Settings{Epoch: settings.Epoch, Version: settings.Version,
			State:    settings.State,
			StartsAt: time.UnixMilli(1), EndsAt: time.UnixMilli(over), Cap: defaultCap, Limit: 1, Total: 10}))

		var ticket queue.Ticket
		rdb, once := dial(t, w.rdb.Options().Addr), sync.Once{}
		rdb.AddHook(beforeDiscard{once: &once, run: func() {
			ends := time.Now().Add(time.Hour)
			_, _, err := w.saleStore.Update(w.ctx, theSale, inventory.Change{EndsAt: &ends}, "olga", "")
			require.NoError(t, err)
			require.NoError(t, w.reconciler.SyncLine(w.ctx, theSale))
			ticket = w.admit("ann", 1)
		}})
		reconciler := inventory.NewReconciler(w.db, queue.NewLines(rdb, queue.DefaultPrefix), defaultCap,
			slog.New(slog.DiscardHandler), w.clock.Now)
		require.NoError(t, reconciler.Reconcile(w.ctx))
		require.NotEmpty(t, ticket.ID, "the moment came")
		known, _, err := line.Lookup(w.ctx, []string{ticket.ID})
		require.NoError(t, err)
		require.Contains(t, known, ticket.ID)
		w.keep()
		w.work(1)
		require.EqualValues(t, 1, w.clean().Live)
	})
}
