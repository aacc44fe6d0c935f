package inventory_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/inventory/audit"
)

// However many lines are busy, the cache looks at so many at a time, at each in its turn.
func TestCacheLooksAtManyLinesInTurn(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	const sales = 120
	for i := range sales {
		w.Create(orders.NewSale(fmt.Sprintf("sale-%03d", i), 10, 1))
	}
	w.CatchUp()
	require.NoError(t, w.Cache.Refresh(w.Ctx))
	w.Cache.Look(w.Ctx)
	for _, e := range w.Cache.List() {
		require.True(t, e.View().Exists, "at those nobody has looked at yet it looks at once")
	}
	count := &testkit.Trips{}
	w.Redis.AddHook(count)
	for range 3 {
		w.Clock.Advance(100 * time.Millisecond)
		for _, e := range w.Cache.List() {
			e.Touch(w.Clock.Now())
		}
		before := count.Keys.Load()
		w.Cache.Look(w.Ctx)
		const most, keys = 50, 8 // lines, and keys of one
		require.Equal(t, int64(most*keys), count.Keys.Load()-before)
	}
	for i := range sales {
		w.LoseLine(fmt.Sprintf("sale-%03d", i))
	}
	for range 3 {
		w.Clock.Advance(100 * time.Millisecond)
		w.Cache.Look(w.Ctx)
	}
	for _, e := range w.Cache.List() {
		require.False(t, e.View().Exists, "three looks are enough for all")
	}
}

func TestTheCacheLooksPastABrokenLine(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.OpenAroundBroken(10)
		w.AdmitMany(3)
		w.Cache.Look(w.Ctx)
		require.EqualValues(w.T, 7, entry(w).Remaining())
		require.EqualValues(w.T, 3, entry(w).View().Waiting)
		require.NoError(w.T, entry(w).Fault())
		bad, ok := w.Cache.Get("a-broken")
		require.True(w.T, ok)
		require.ErrorContains(w.T, bad.Fault(), "WRONGTYPE")
		require.EqualValues(w.T, 10, bad.Remaining(), "from the ledger")
		require.NoError(w.T, w.Cache.Ready(w.Ctx), "readiness is of all, not of one")
		gauges := audit.NewGauges(w.Cache, w.Auditor, slog.New(slog.DiscardHandler), w.Clock.Now)
		require.NoError(w.T, testutil.CollectAndCompare(gauges, strings.NewReader(`
# HELP sluice_queue_depth Tickets waiting in the line.
# TYPE sluice_queue_depth gauge
sluice_queue_depth{sale="sale"} 3
`), "sluice_queue_depth"))
	})
}
