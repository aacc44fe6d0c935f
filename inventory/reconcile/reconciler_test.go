package reconcile_test

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
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/queue"
	"sluice/store"
)

func TestNewSaleGetsALine(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		n := orders.NewSale(orders.Sale, 10, 2)
		n.Open = false
		w.Create(n)
		require.False(w.T, w.View().Exists)
		_, err := w.Ask("ann", 1)
		require.ErrorIs(w.T, err, queue.ErrNotReady)
		w.CatchUp()
		v := w.View()
		require.Equal(w.T, []any{true, false, int64(1), int64(1), inventory.Draft, int64(orders.Cap), int64(10)},
			[]any{v.Exists, v.Rebuilding, v.Epoch, v.Version, v.State, v.Cap, v.Stock})
		w.CatchUp()
		require.Equal(w.T, v.Epoch, w.View().Epoch, "a line in order is left alone")
		w.Clean()
	})
}

func TestChangesArriveInTheLine(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(10, 1)
		w.AdmitMany(3)
		w.WorkOff(1)
		lineCap, limit := 4, 2
		_, _, err := w.Sales.Update(w.Ctx, orders.Sale, inventory.Change{Cap: &lineCap,
			PerUserLimit: &limit}, "test", "")
		require.NoError(w.T, err)
		_, err = w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 5, Actor: "test",
			Reason: "found"})
		require.NoError(w.T, err)
		w.Clean() // also while the line does not know
		w.CatchUp()
		require.EqualValues(w.T, 4, w.View().Cap)
		require.EqualValues(w.T, 12, w.View().Stock, "three of fifteen are promised")
		w.Clean()
		w.Admit("ann", 2)
		a, err := w.Ask("bob", 3)
		require.NoError(w.T, err)
		require.ErrorAs(w.T, a.Err, &queue.LimitError{})
		w.Admit("bob", 2)
		a, err = w.Ask("cid", 1)
		require.NoError(w.T, err)
		require.ErrorIs(w.T, a.Err, queue.ErrFull)

		_, err = w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: -13, Actor: "test",
			Reason: "lost"})
		require.NoError(w.T, err)
		w.CatchUp()
		require.EqualValues(w.T, -5, w.View().Stock, "tickets in line for units that are gone")
		w.Clean()
		w.WorkOff(10)
		require.Zero(w.T, w.View().Stock)
		w.Clean()

		_, _, err = w.Sales.SetState(w.Ctx, orders.Sale, inventory.Paused, "test", "")
		require.NoError(w.T, err)
		w.CatchUp()
		a, err = w.Ask("dan", 1)
		require.NoError(w.T, err)
		require.ErrorIs(w.T, a.Err, queue.ErrPaused)
		starts, ends := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		_, _, err = w.Sales.Update(w.Ctx, orders.Sale, inventory.Change{StartsAt: &starts, EndsAt: &ends}, "test", "")
		require.NoError(w.T, err)
		w.CatchUp()
		a, err = w.Ask("dan", 1)
		require.NoError(w.T, err)
		require.ErrorAs(w.T, a.Err, &queue.NotStartedError{})
		_, _, err = w.Sales.SetState(w.Ctx, orders.Sale, inventory.Closed, "test", "")
		require.NoError(w.T, err)
		w.CatchUp()
		a, err = w.Ask("dan", 1)
		require.NoError(w.T, err)
		require.ErrorIs(w.T, a.Err, queue.ErrEnded)
	})
}

// Among a thousand sales a change of one does not wait for the others, nor fail with them.
func TestSyncLineChangesOneSale(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Create(orders.NewSale("other", 10, 1))
	w.Open(10, 1)
	require.NoError(t, w.Redis.Set(w.Ctx, "sluice:{other/0}:wait", "no list", 0).Err())
	require.Error(t, w.Reconciler.Reconcile(w.Ctx))
	_, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 5, Actor: "test",
		Reason: "found"})
	require.NoError(t, err)
	require.NoError(t, w.Reconciler.SyncLine(w.Ctx, orders.Sale))
	require.EqualValues(t, 15, w.View().Stock)
	require.Error(t, w.Reconciler.SyncLine(w.Ctx, "other"))

	// Also when Redis has lost everything: the next round looks after the others.
	require.NoError(t, w.Redis.FlushAll(w.Ctx).Err())
	require.NoError(t, w.Reconciler.SyncLine(w.Ctx, orders.Sale))
	views, failed := w.Lines.Views(w.Ctx, []string{orders.Sale, "other"})
	require.NoError(t, errors.Join(failed...))
	require.True(t, views[0].Verified && !views[1].Exists)
	w.CatchUp()
	require.True(t, viewOf(w, "other").Verified)
}

func TestSyncLineWaitsForAnotherInstance(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(10, 1)
	require.NoError(t, w.Redis.FlushAll(w.Ctx).Err())
	w.Exec("UPDATE sales SET rebuild_until = ?", w.Clock.Now().Add(time.Second).UnixMilli())
	short, cancel := context.WithTimeout(w.Ctx, time.Second)
	defer cancel()
	require.ErrorIs(t, w.Reconciler.SyncLine(short, orders.Sale), inventory.ErrBusy)
	carried := make(chan error, 1)
	go func() { carried <- w.Reconciler.SyncLine(w.Ctx, orders.Sale) }()
	w.Clock.Advance(2 * time.Second)
	require.NoError(t, <-carried)
	w.Clean()
}

// atTime is a world whose Redis clock the test sets.
func atTime(t *testing.T) (*orders.World, *miniredis.Miniredis) {
	t.Helper()
	t.Parallel()
	server := testkit.Embedded(t)
	return orders.NewEmpty(t, tables.New(t, store.SQLite), server.Addr()), server
}

func TestLineOfAFinishedSaleIsDroppedAfterItsHour(t *testing.T) {
	w, server := atTime(t)
	w.Open(10, 1)
	w.AdmitMany(2)
	sale, _ := w.Get()
	at := func(d time.Duration) {
		now := sale.Ends().Add(d)
		server.SetTime(now)
		w.Clock.Advance(now.Sub(w.Clock.Now()))
		w.CatchUp()
	}
	at(0)
	require.True(t, w.View().Exists)
	at(inventory.LineKept + time.Second)
	require.True(t, w.View().Exists, "tickets are still in it")
	w.WorkOff(2)
	at(inventory.LineKept - time.Second)
	require.True(t, w.View().Exists, "its owners still ask")
	at(inventory.LineKept + time.Second)
	require.False(t, w.View().Exists)
	keys, err := w.Redis.Keys(w.Ctx, "sluice:{*").Result()
	require.NoError(t, err)
	require.Empty(t, keys)
	at(inventory.LineKept + 2*time.Second)
	require.False(t, w.View().Exists, "and not made again")
	r := w.Clean()
	require.False(t, r.LinePresent)
	require.EqualValues(t, 2, r.Live)
}

func TestLineOfAClosedSale(t *testing.T) {
	w, server := atTime(t)
	w.Open(10, 1)
	ticket := w.Admit("ann", 1)
	w.WorkOff(1)
	_, _, err := w.Sales.SetState(w.Ctx, orders.Sale, inventory.Closed, "test", "")
	require.NoError(t, err)
	w.CatchUp()
	w.Clock.Advance(inventory.LineKept + time.Minute)
	server.SetTime(w.Clock.Now())
	w.CatchUp()
	require.False(t, w.View().Exists)

	// An order that ends now has no line to come back to.
	w.Exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0 WHERE id = ?", ticket.ID)
	w.Exec("UPDATE stock SET available = available + 1")
	w.CatchUp()
	var left int64
	require.NoError(t, w.DB.Read.Table("orders").Where("released = 0").Count(&left).Error)
	require.Zero(t, left)
	w.Clean()
}

// A reconciler whose own clock is far ahead must not drop what still sells.
func TestWrongClockDropsNothing(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(10, 1)
	w.Clock.Advance(2*time.Hour + 30*time.Minute)
	w.CatchUp()
	require.True(t, w.View().Exists)
	w.Admit("ann", 1)
}

func TestReleases(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(2000, 1)
		const ended = 620 // more than one step brings back
		var states []string
		for _, ticket := range w.AdmitMany(ended) {
			states = append(states, ticket.ID)
		}
		w.WorkOff(ended)
		w.Exec("UPDATE orders SET status = CASE WHEN seq % 2 = 0 THEN 'expired' ELSE 'cancelled' END, slot = NULL, " +
			"released = 0, ended_at = 1")
		w.Exec("UPDATE stock SET available = available + ?", ended)
		require.EqualValues(w.T, 2000-ended, w.View().Stock)
		w.Clean()
		for range 3 {
			w.CatchUp()
			w.Clean()
		}
		require.EqualValues(w.T, 2000, w.View().Stock)
		known, _, err := w.Line.Lookup(w.Ctx, states[:2])
		require.NoError(w.T, err)
		require.Equal(w.T, queue.Cancelled, known[states[0]].State)
		require.Equal(w.T, queue.Expired, known[states[1]].State)
		w.Admit("user-0001", 1)
	})
}

func TestReconcilerRuns(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	ctx, stop := context.WithCancel(w.Ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Reconciler.Run(ctx)
	}()
	for n := range 3 {
		id := fmt.Sprintf("sale-%d", n)
		w.Create(orders.NewSale(id, 1, 1))
		w.Reconciler.Wake()
		require.Eventually(t, func() bool {
			v, err := w.Lines.Of(id).View(w.Ctx)
			return err == nil && v.Exists && !v.Rebuilding
		}, orders.Soon, 5*time.Millisecond)
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
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(10, 1)
		over := time.Now().Add(-2 * inventory.LineKept).UnixMilli()
		w.Exec("UPDATE sales SET starts_at = 1, ends_at = ?, version = version + 1 WHERE id = ?", over, orders.Sale)
		w.Exec("UPDATE sales SET updated_at = ? WHERE id = ?", time.Now().UnixMilli(), orders.Sale)
		require.NoError(t, w.Reconciler.SyncLine(w.Ctx, "none")) // loads nothing: the line is still as it was
		line := w.Lines.Of(orders.Sale)
		settings, _ := w.Get()
		require.NoError(t, line.Configure(w.Ctx, queue.Settings{Epoch: settings.Epoch, Version: settings.Version,
			State:    settings.State,
			StartsAt: time.UnixMilli(1), EndsAt: time.UnixMilli(over), Cap: orders.Cap, Limit: 1, Total: 10}))

		var ticket queue.Ticket
		rdb, once := testkit.ProductClient(t, w.Redis.Options().Addr), sync.Once{}
		rdb.AddHook(beforeDiscard{once: &once, run: func() {
			ends := time.Now().Add(time.Hour)
			_, _, err := w.Sales.Update(w.Ctx, orders.Sale, inventory.Change{EndsAt: &ends}, "olga", "")
			require.NoError(t, err)
			require.NoError(t, w.Reconciler.SyncLine(w.Ctx, orders.Sale))
			ticket = w.Admit("ann", 1)
		}})
		reconciler := reconcile.New(w.DB, queue.NewLines(rdb, queue.DefaultPrefix), orders.Cap,
			slog.New(slog.DiscardHandler), w.Clock.Now)
		require.NoError(t, reconciler.Reconcile(w.Ctx))
		require.NotEmpty(t, ticket.ID, "the moment came")
		known, _, err := line.Lookup(w.Ctx, []string{ticket.ID})
		require.NoError(t, err)
		require.Contains(t, known, ticket.ID)
		w.CatchUp()
		w.WorkOff(1)
		require.EqualValues(t, 1, w.Clean().Live)
	})
}
