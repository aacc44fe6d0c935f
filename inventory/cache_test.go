package inventory_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/store"
)

func entry(w *orders.World) *inventory.Entry {
	w.T.Helper()
	e, ok := w.Cache.Get(orders.Sale)
	require.True(w.T, ok)
	return e
}

func TestCacheKnowsSalesAndLines(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		_, ok := w.Cache.Get(orders.Sale)
		require.False(w.T, ok)
		w.Create(orders.NewSale(orders.Sale, 10, 1))
		require.NoError(w.T, w.Cache.Refresh(w.Ctx))
		require.EqualValues(w.T, 10, entry(w).Remaining(), "from the ledger until the line is known")
		require.Positive(w.T, entry(w).Rate())
		w.CatchUp()
		w.AdmitMany(4)
		w.Cache.Look(w.Ctx)
		require.EqualValues(w.T, 6, entry(w).Remaining())
		require.EqualValues(w.T, 10, entry(w).Stock.Available)

		// What is known of the line survives a refresh of the sales.
		_, _, err := w.Sales.SetState(w.Ctx, orders.Sale, inventory.Paused, "test", "")
		require.NoError(w.T, err)
		require.NoError(w.T, w.Cache.Refresh(w.Ctx))
		require.Equal(w.T, inventory.Paused, entry(w).Sale.State)
		require.EqualValues(w.T, 4, entry(w).View().Waiting)
		require.EqualValues(w.T, 6, entry(w).Remaining())

		_, err = w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: -8, Actor: "test",
			Reason: "lost"})
		require.NoError(w.T, err)
		w.CatchUp()
		w.Cache.Look(w.Ctx)
		require.EqualValues(w.T, -2, entry(w).View().Stock)
		require.Zero(w.T, entry(w).Remaining(), "never less than nothing")
	})
}

func TestCacheListsActiveSales(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	for _, id := range []string{"first", "second", "third"} {
		w.Create(orders.NewSale(id, 1, 1))
		w.Clock.Advance(time.Second)
	}
	w.CatchUp()
	w.Cache.Look(w.Ctx)
	require.Equal(t, []string{"third", "second", "first"}, w.Cache.Active())
	_, _, err := w.Sales.SetState(w.Ctx, "second", inventory.Closed, "test", "")
	require.NoError(t, err)
	w.CatchUp()
	w.Cache.Look(w.Ctx)
	require.Equal(t, []string{"third", "second", "first"}, w.Cache.Active(), "its line may still hold tickets")
	w.LoseLine("second")
	w.Cache.Look(w.Ctx)
	require.Equal(t, []string{"third", "second", "first"}, w.Cache.Active(), "a reconciler may load it again")
	w.Exec("UPDATE sales SET updated_at = ?, ends_at = ? WHERE id = 'second'", 1, 2)
	require.NoError(t, w.Cache.Refresh(w.Ctx))
	require.Equal(t, []string{"third", "first"}, w.Cache.Active())
	var listed []string
	for _, e := range w.Cache.List() {
		listed = append(listed, e.Sale.ID)
	}
	require.Equal(t, []string{"third", "second", "first"}, listed)
}

// Who changes a sale reads that one alone, into its place among the others, and keeps what is known of its line.
func TestCacheReadsOneSale(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		listed := func() []string {
			var ids []string
			for _, e := range w.Cache.List() {
				ids = append(ids, e.Sale.ID)
			}
			return ids
		}
		add := func(ids ...string) { // at one time
			for _, id := range ids {
				w.Create(orders.NewSale(id, 5, 1))
			}
			w.Clock.Advance(time.Second)
		}
		add("m")
		require.NoError(w.T, w.Cache.RefreshSale(w.Ctx, "m"), "into an empty book")
		require.Equal(w.T, []string{"m"}, listed())
		w.CatchUp()
		w.Cache.Look(w.Ctx)
		require.True(w.T, w.Cache.List()[0].View().Exists)

		add("c", "a", "b")
		for _, id := range []string{"c", "a", "b"} {
			require.NoError(w.T, w.Cache.RefreshSale(w.Ctx, id))
		}
		require.Equal(w.T, []string{"a", "b", "c", "m"}, listed(), "newest first, and of one time by name")
		_, _, err := w.Sales.SetState(w.Ctx, "m", inventory.Paused, "test", "")
		require.NoError(w.T, err)
		_, _, err = w.Sales.SetState(w.Ctx, "b", inventory.Paused, "test", "")
		require.NoError(w.T, err)
		require.NoError(w.T, w.Cache.RefreshSale(w.Ctx, "m"))
		m, _ := w.Cache.Get("m")
		b, _ := w.Cache.Get("b")
		require.Equal(w.T, inventory.Paused, m.Sale.State)
		require.True(w.T, m.View().Exists, "what is known of its line stays")
		require.NotEqual(w.T, inventory.Paused, b.Sale.State, "another sale was read, too")
		require.Same(w.T, m, w.Cache.List()[3])

		one := listed()
		require.NoError(w.T, w.Cache.Refresh(w.Ctx))
		require.Equal(w.T, one, listed(), "the order of a reading of all")
		require.ErrorIs(w.T, w.Cache.RefreshSale(w.Ctx, "none"), inventory.ErrNoSale)
		require.Equal(w.T, one, listed())
	})
}

func TestCacheFollowsRedisClock(t *testing.T) {
	t.Parallel()
	server := testkit.Embedded(t)
	w := orders.NewEmpty(t, tables.New(t, store.SQLite), server.Addr())
	w.Open(1, 1)
	require.Equal(t, w.Clock.Now(), w.Cache.Now(), "nothing is known yet")
	for _, wrong := range []time.Duration{time.Hour, -time.Hour} {
		server.SetTime(w.Clock.Now().Add(wrong))
		w.Cache.Look(w.Ctx)
		require.WithinDuration(t, w.Clock.Now().Add(wrong), w.Cache.Now(), time.Millisecond)
	}
}

func TestCacheAnswersFromTheLastReading(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Embedded(t).Addr())
	w := orders.NewEmpty(t, tables.New(t, store.SQLite), proxy.Addr())
	w.Open(10, 1)
	w.AdmitMany(3)
	w.Cache.Look(w.Ctx)
	proxy.Cut()
	require.NoError(t, w.DB.Close())
	w.Cache.Look(w.Ctx)
	require.Error(t, w.Cache.Refresh(w.Ctx))
	require.EqualValues(t, 7, entry(w).Remaining())
}

func TestCacheRuns(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	ctx, stop := context.WithCancel(w.Ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Cache.Run(ctx)
	}()
	w.Create(orders.NewSale(orders.Sale, 10, 1))
	w.Cache.Wake()
	require.Eventually(t, func() bool { _, ok := w.Cache.Get(orders.Sale); return ok }, orders.Soon, time.Millisecond)
	require.NoError(t, w.Reconciler.Reconcile(w.Ctx))
	require.Eventually(t, func() bool { return entry(w).View().Exists }, orders.Soon, time.Millisecond)
	stop()
	<-ended
}

// A batch of requests that find the cache behind share one reading of it.
func TestThoseWhoFindTheCacheBehindShareAReading(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(10, 1)
	w.Clock.Advance(time.Minute)
	var readings atomic.Int64
	require.NoError(t, w.DB.Read.Callback().Query().After("gorm:query").Register("readings", func(tx *gorm.DB) {
		if tx.Statement.Table == "sales" {
			readings.Add(1)
		}
	}))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { require.NoError(t, w.Cache.RefreshOlderThan(w.Ctx, time.Second)) })
	}
	all.Wait()
	require.EqualValues(t, 1, readings.Load())
	require.NoError(t, w.Cache.Refresh(w.Ctx))
	require.EqualValues(t, 2, readings.Load(), "whoever knows of a change reads")
}
