package reconcile_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/inventory"
)

// Open lines follow the caps; of a promised wait and a sale's own cap the smaller one counts.
func TestReconcilerCarriesCaps(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(10, 1)
	lineCap := func() int64 {
		w.CatchUp()
		v, err := w.Line.View(w.Ctx)
		require.NoError(t, err)
		return v.Cap
	}
	drain := inventory.Drain{PerSecond: 200}
	w.Reconciler.MeasuredBy(func(string) inventory.Drain { return drain })
	w.Reconciler.SetCaps(inventory.CapPolicy{Cap: 321})
	require.EqualValues(t, 321, lineCap())
	policy := inventory.CapPolicy{Cap: 10_000, MinCap: 50, MaxWait: 10 * time.Second}
	w.Reconciler.SetCaps(policy)
	require.EqualValues(t, 50, lineCap(), "nobody has measured anything")
	drain.Measured = true
	require.EqualValues(t, 2000, lineCap())
	drain.PerSecond = 205
	require.EqualValues(t, 2000, lineCap(), "a small movement is not worth a call")
	drain.PerSecond = 100
	require.EqualValues(t, 1000, lineCap())
	policy.Cap = 990
	w.Reconciler.SetCaps(policy)
	require.EqualValues(t, 990, lineCap(), "a bound is exact")

	own := 400
	sale, _ := w.Get()
	_, _, err := w.Sales.Update(w.Ctx, sale.ID, inventory.Change{Cap: &own}, "ann", "")
	require.NoError(t, err)
	require.EqualValues(t, 400, lineCap())
	drain.PerSecond = 30
	require.EqualValues(t, 300, lineCap(), "the wait is promised to this sale's orders.Places, too")
	drain.PerSecond = 1000
	require.EqualValues(t, 400, lineCap())
	policy.MaxWait = 0
	drain.PerSecond = 1
	w.Reconciler.SetCaps(policy)
	require.EqualValues(t, 400, lineCap())
}
