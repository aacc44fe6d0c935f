package inventory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/inventory"
)

// A round over lines that agree with their sales costs a few questions; the one that does not agree is still put right.
func TestKeeperOfManySales(t *testing.T) {
	eachDatabase(t, func(w *world) {
		const sales = 120 // more than one round trip looks at
		for i := range sales {
			w.create(newSale(fmt.Sprintf("sale-%03d", i), 10, 1))
		}
		w.keep()
		count := &testkit.Trips{}
		w.rdb.AddHook(count)
		round := func() int64 {
			before := count.Rounds.Load()
			w.keep()
			return count.Rounds.Load() - before
		}
		round() // Redis learns the script
		require.LessOrEqual(w.t, round(), int64(5))

		odd := w.lines.Of("sale-077")
		view := func() int64 {
			v, err := odd.View(w.ctx)
			require.NoError(w.t, err)
			return v.Stock
		}
		w.exec("UPDATE stock SET total = total + 5, available = available + 5 WHERE sale_id = 'sale-077'")
		w.exec("UPDATE sales SET version = version + 1 WHERE id = 'sale-077'")
		round()
		require.EqualValues(w.t, 15, view(), "a changed sale")

		w.loseLine("sale-077")
		round()
		require.EqualValues(w.t, 15, view(), "a line that is gone")

		w.reconciler.SetCaps(inventory.CapPolicy{Cap: 77, MinCap: 1})
		round()
		v, err := odd.View(w.ctx)
		require.NoError(w.t, err)
		require.EqualValues(w.t, 77, v.Cap)
		require.LessOrEqual(w.t, round(), int64(5), "and then they agree again")
	})
}

// However many lines are busy, the cache looks at so many at a time, at each in its turn.
func TestBookLooksAtManyLinesInTurn(t *testing.T) {
	w := onSQLite(t)
	const sales = 120
	for i := range sales {
		w.create(newSale(fmt.Sprintf("sale-%03d", i), 10, 1))
	}
	w.keep()
	require.NoError(t, w.cache.Refresh(w.ctx))
	w.cache.Look(w.ctx)
	for _, e := range w.cache.List() {
		require.True(t, e.View().Exists, "at those nobody has looked at yet it looks at once")
	}
	count := &testkit.Trips{}
	w.rdb.AddHook(count)
	for range 3 {
		w.clock.Advance(100 * time.Millisecond)
		for _, e := range w.cache.List() {
			e.Touch(w.clock.Now())
		}
		before := count.Keys.Load()
		w.cache.Look(w.ctx)
		const most, keys = 50, 8 // lines, and keys of one
		require.Equal(t, int64(most*keys), count.Keys.Load()-before)
	}
	for i := range sales {
		w.loseLine(fmt.Sprintf("sale-%03d", i))
	}
	for range 3 {
		w.clock.Advance(100 * time.Millisecond)
		w.cache.Look(w.ctx)
	}
	for _, e := range w.cache.List() {
		require.False(t, e.View().Exists, "three looks are enough for all")
	}
}
