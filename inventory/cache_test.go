package inventory_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/store"
)

func (w *world) entry() *inventory.Entry {
	w.t.Helper()
	e, ok := w.cache.Get(theSale)
	require.True(w.t, ok)
	return e
}

func TestBookKnowsSalesAndLines(t *testing.T) {
	eachDatabase(t, func(w *world) {
		_, ok := w.cache.Get(theSale)
		require.False(w.t, ok)
		w.create(newSale(theSale, 10, 1))
		require.NoError(w.t, w.cache.Refresh(w.ctx))
		require.EqualValues(w.t, 10, w.entry().Remaining(), "from the ledger until the line is known")
		require.Positive(w.t, w.entry().Rate())
		w.keep()
		w.admitMany(4)
		w.cache.Look(w.ctx)
		require.EqualValues(w.t, 6, w.entry().Remaining())
		require.EqualValues(w.t, 10, w.entry().Stock.Available)

		// What is known of the line survives a refresh of the sales.
		_, _, err := w.saleStore.SetState(w.ctx, theSale, inventory.Paused, "test", "")
		require.NoError(w.t, err)
		require.NoError(w.t, w.cache.Refresh(w.ctx))
		require.Equal(w.t, inventory.Paused, w.entry().Sale.State)
		require.EqualValues(w.t, 4, w.entry().View().Waiting)
		require.EqualValues(w.t, 6, w.entry().Remaining())

		_, err = w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: -8, Actor: "test",
			Reason: "lost"})
		require.NoError(w.t, err)
		w.keep()
		w.cache.Look(w.ctx)
		require.EqualValues(w.t, -2, w.entry().View().Stock)
		require.Zero(w.t, w.entry().Remaining(), "never less than nothing")
	})
}

func TestBookListsActiveSales(t *testing.T) {
	w := onSQLite(t)
	for _, id := range []string{"first", "second", "third"} {
		w.create(newSale(id, 1, 1))
		w.clock.Advance(time.Second)
	}
	w.keep()
	w.cache.Look(w.ctx)
	require.Equal(t, []string{"third", "second", "first"}, w.cache.Active())
	_, _, err := w.saleStore.SetState(w.ctx, "second", inventory.Closed, "test", "")
	require.NoError(t, err)
	w.keep()
	w.cache.Look(w.ctx)
	require.Equal(t, []string{"third", "second", "first"}, w.cache.Active(), "its line may still hold tickets")
	w.loseLine("second")
	w.cache.Look(w.ctx)
	require.Equal(t, []string{"third", "second", "first"}, w.cache.Active(), "a reconciler may load it again")
	w.exec("UPDATE sales SET updated_at = ?, ends_at = ? WHERE id = 'second'", 1, 2)
	require.NoError(t, w.cache.Refresh(w.ctx))
	require.Equal(t, []string{"third", "first"}, w.cache.Active())
	var listed []string
	for _, e := range w.cache.List() {
		listed = append(listed, e.Sale.ID)
	}
	require.Equal(t, []string{"third", "second", "first"}, listed)
}

// Who changes a sale reads that one alone, into its place among the others, and keeps what is known of its line.
func TestBookReadsOneSale(t *testing.T) {
	eachDatabase(t, func(w *world) {
		listed := func() []string {
			var ids []string
			for _, e := range w.cache.List() {
				ids = append(ids, e.Sale.ID)
			}
			return ids
		}
		add := func(ids ...string) { // at one time
			for _, id := range ids {
				w.create(newSale(id, 5, 1))
			}
			w.clock.Advance(time.Second)
		}
		add("m")
		require.NoError(w.t, w.cache.RefreshSale(w.ctx, "m"), "into an empty book")
		require.Equal(w.t, []string{"m"}, listed())
		w.keep()
		w.cache.Look(w.ctx)
		require.True(w.t, w.cache.List()[0].View().Exists)

		add("c", "a", "b")
		for _, id := range []string{"c", "a", "b"} {
			require.NoError(w.t, w.cache.RefreshSale(w.ctx, id))
		}
		require.Equal(w.t, []string{"a", "b", "c", "m"}, listed(), "newest first, and of one time by name")
		_, _, err := w.saleStore.SetState(w.ctx, "m", inventory.Paused, "test", "")
		require.NoError(w.t, err)
		_, _, err = w.saleStore.SetState(w.ctx, "b", inventory.Paused, "test", "")
		require.NoError(w.t, err)
		require.NoError(w.t, w.cache.RefreshSale(w.ctx, "m"))
		m, _ := w.cache.Get("m")
		b, _ := w.cache.Get("b")
		require.Equal(w.t, inventory.Paused, m.Sale.State)
		require.True(w.t, m.View().Exists, "what is known of its line stays")
		require.NotEqual(w.t, inventory.Paused, b.Sale.State, "another sale was read, too")
		require.Same(w.t, m, w.cache.List()[3])

		one := listed()
		require.NoError(w.t, w.cache.Refresh(w.ctx))
		require.Equal(w.t, one, listed(), "the order of a reading of all")
		require.ErrorIs(w.t, w.cache.RefreshSale(w.ctx, "none"), inventory.ErrNoSale)
		require.Equal(w.t, one, listed())
	})
}

func TestBookFollowsRedisClock(t *testing.T) {
	w, server := atTime(t)
	w.open(1, 1)
	require.Equal(t, w.clock.Now(), w.cache.Now(), "nothing is known yet")
	for _, wrong := range []time.Duration{time.Hour, -time.Hour} {
		server.SetTime(w.clock.Now().Add(wrong))
		w.cache.Look(w.ctx)
		require.WithinDuration(t, w.clock.Now().Add(wrong), w.cache.Now(), time.Millisecond)
	}
}

func TestBookAnswersFromTheLastReading(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Embedded(t).Addr())
	w := newWorld(t, tables.New(t, store.SQLite), proxy.Addr())
	w.open(10, 1)
	w.admitMany(3)
	w.cache.Look(w.ctx)
	proxy.Cut()
	require.NoError(t, w.db.Close())
	w.cache.Look(w.ctx)
	require.Error(t, w.cache.Refresh(w.ctx))
	require.EqualValues(t, 7, w.entry().Remaining())
}

func TestBookRuns(t *testing.T) {
	w := onSQLite(t)
	ctx, stop := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.cache.Run(ctx)
	}()
	w.create(newSale(theSale, 10, 1))
	w.cache.Wake()
	require.Eventually(t, func() bool { _, ok := w.cache.Get(theSale); return ok }, soon, time.Millisecond)
	require.NoError(t, w.reconciler.Reconcile(w.ctx))
	require.Eventually(t, func() bool { return w.entry().View().Exists }, soon, time.Millisecond)
	stop()
	<-ended
}

func TestGauges(t *testing.T) {
	w := onSQLite(t)
	gauges := inventory.NewGauges(w.cache, w.auditor, slog.New(slog.DiscardHandler), time.Now)
	require.Zero(t, testutil.CollectAndCount(gauges))
	w.open(10, 1)
	w.admitMany(4)
	w.work(1)
	w.create(newSale("lineless", 3, 1))
	require.NoError(t, w.cache.Refresh(w.ctx))
	w.cache.Look(w.ctx)
	require.NoError(t, w.reconciler.Reconcile(w.ctx))
	require.NoError(t, gauges.Measure(w.ctx))
	expected := `
# HELP sluice_ledger_difference Units by which ledger and line differ; anything but 0 is a defect.
# TYPE sluice_ledger_difference gauge
sluice_ledger_difference{sale="lineless"} 0
sluice_ledger_difference{sale="sale"} 0
# HELP sluice_queue_capacity Most tickets that may wait in the line.
# TYPE sluice_queue_capacity gauge
sluice_queue_capacity{sale="sale"} 5000
# HELP sluice_queue_depth Tickets waiting in the line.
# TYPE sluice_queue_depth gauge
sluice_queue_depth{sale="sale"} 3
# HELP sluice_stock_available Units that can still be ordered, by store.
# TYPE sluice_stock_available gauge
sluice_stock_available{sale="lineless",store="database"} 3
sluice_stock_available{sale="sale",store="database"} 9
sluice_stock_available{sale="sale",store="redis"} 6
# HELP sluice_dead_letters Tickets given up on, kept for an operator.
# TYPE sluice_dead_letters gauge
sluice_dead_letters{sale="sale"} 0
`
	require.NoError(t, testutil.CollectAndCompare(gauges, strings.NewReader(expected),
		"sluice_ledger_difference", "sluice_queue_capacity", "sluice_queue_depth", "sluice_stock_available",
		"sluice_dead_letters"))
	problems, err := testutil.CollectAndLint(gauges)
	require.NoError(t, err)
	require.Empty(t, problems)

	require.NoError(t, w.rdb.DecrBy(w.ctx, key("stock"), 2).Err())
	require.NoError(t, gauges.Measure(w.ctx))
	require.NoError(t, testutil.CollectAndCompare(gauges, strings.NewReader(`
# HELP sluice_ledger_difference Units by which ledger and line differ; anything but 0 is a defect.
# TYPE sluice_ledger_difference gauge
sluice_ledger_difference{sale="lineless"} 0
sluice_ledger_difference{sale="sale"} 2
`), "sluice_ledger_difference"))

	require.NoError(t, w.db.Close())
	require.Error(t, gauges.Measure(w.ctx), "an audit that cannot be made")
	require.NoError(t, testutil.CollectAndCompare(gauges, strings.NewReader(`
# HELP sluice_ledger_difference Units by which ledger and line differ; anything but 0 is a defect.
# TYPE sluice_ledger_difference gauge
sluice_ledger_difference{sale="lineless"} 0
sluice_ledger_difference{sale="sale"} 2
`), "sluice_ledger_difference"), "keeps the last value")

	ctx, stop := context.WithCancel(w.ctx)
	stop()
	gauges.Run(ctx) // returns
}

// A batch of requests that find the cache behind share one reading of it.
func TestThoseWhoFindTheBookBehindShareAReading(t *testing.T) {
	w := onSQLite(t)
	w.open(10, 1)
	w.clock.Advance(time.Minute)
	var readings atomic.Int64
	require.NoError(t, w.db.Read.Callback().Query().After("gorm:query").Register("readings", func(tx *gorm.DB) {
		if tx.Statement.Table == "sales" {
			readings.Add(1)
		}
	}))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { require.NoError(t, w.cache.RefreshOlderThan(w.ctx, time.Second)) })
	}
	all.Wait()
	require.EqualValues(t, 1, readings.Load())
	require.NoError(t, w.cache.Refresh(w.ctx))
	require.EqualValues(t, 2, readings.Load(), "whoever knows of a change reads")
}
