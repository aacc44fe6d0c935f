package reconcile_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/inventory/reconcile"
	"sluice/queue"
)

// An accepted order that no store holds is a difference until a loading of the line has recorded it as lost.
func TestOrdersInNoStoreAreCounted(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(20, 1)
		lost := w.AdmitMany(4)[3]
		w.WorkOff(2)
		record := w.Redis.HGet(w.Ctx, orders.Key("orders"), lost.ID).Val()
		require.NoError(w.T, w.Redis.HDel(w.Ctx, orders.Key("orders"), lost.ID).Err())
		require.NoError(w.T, w.Redis.HDel(w.Ctx, orders.Key("holders"), lost.User).Err())
		require.NoError(w.T, w.Redis.LRem(w.Ctx, orders.Key("wait"), 1, lost.ID).Err())
		require.NoError(w.T, w.Redis.Incr(w.Ctx, orders.Key("stock")).Err())
		require.NotEmpty(w.T, record)
		r := w.Audit()
		require.Zero(w.T, r.Difference, "no unit is missing")
		require.EqualValues(w.T, 1, r.Missing)
		require.False(w.T, r.Clean)
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		r = w.Clean()
		require.EqualValues(w.T, []int64{0, 1}, []int64{r.Missing, r.Lost})
		require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		require.EqualValues(w.T, 1, w.Clean().Lost, "it is recorded once")
	})
}

// The newest tickets may be known to those alone who admitted them: a reconciler elsewhere adds what it was answered.
func TestEveryProcessAddsWhatItWasAnswered(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(20, 1)
	w.AdmitMany(2)
	other := queue.NewLines(testkit.ProductClient(t, w.Addr), queue.DefaultPrefix)
	sale, _ := w.Get()
	for _, user := range []string{"ann", "bob", "cat"} {
		a, err := other.Of(orders.Sale).Admit(w.Ctx, sale.Epoch, 100,
			[]queue.Request{{ID: "o-" + user, User: user, Units: 1, Fingerprint: "f"}})
		require.NoError(t, err)
		require.NoError(t, a[0].Err)
	}
	require.NoError(t, w.Redis.FlushAll(w.Ctx).Err())
	w.CatchUp() // it knows of its own two alone
	require.EqualValues(t, 2, w.Clean().Lost)
	elsewhere := reconcile.New(w.DB, other, orders.Cap, slog.New(slog.DiscardHandler), w.Clock.Now)
	for range 2 {
		require.NoError(t, elsewhere.Reconcile(w.Ctx))
	}
	require.EqualValues(t, 5, w.Clean().Lost)
}

// What was lost is counted once, however often the line is loaded afterwards, and by whom.
func TestALossIsCountedOnce(t *testing.T) {
	for name, loader := range map[string]string{"by who has seen it": "gateway", "by another": "keeper"} {
		t.Run(name, func(t *testing.T) {
			w := orders.EmptyOnSQLite(t)
			w.Open(20, 1)
			w.AdmitMany(2)
			lines := queue.NewLines(testkit.ProductClient(t, w.Addr), queue.DefaultPrefix)
			gateway := reconcile.New(w.DB, lines, orders.Cap, slog.New(slog.DiscardHandler), w.Clock.Now)
			sale, _ := w.Get()
			for _, user := range []string{"ann", "bob", "cat"} {
				a, err := lines.Of(orders.Sale).Admit(w.Ctx, sale.Epoch, 100,
					[]queue.Request{{ID: "o-" + user, User: user, Units: 1, Fingerprint: "f"}})
				require.NoError(t, err)
				require.NoError(t, a[0].Err)
			}
			require.NoError(t, w.Redis.FlushAll(w.Ctx).Err())
			w.CatchUp()
			require.NoError(t, gateway.Reconcile(w.Ctx))
			require.EqualValues(t, 5, w.Clean().Lost)
			w.Admit("dan", 1) // under a sequence that was lost
			by := map[string]*reconcile.Reconciler{"gateway": gateway, "keeper": w.Reconciler}[loader]
			for range 2 {
				require.NoError(t, by.Rebuild(w.Ctx, orders.Sale))
				require.NoError(t, errors.Join(w.Reconciler.Reconcile(w.Ctx), gateway.Reconcile(w.Ctx)))
				require.EqualValues(t, 5, w.Clean().Lost)
			}
		})
	}
}

// Two servers that both hold a verified line, after a partition: the one with the older loading leaves the sale alone
// for a while.
func TestTwoServersDoNotTakeALineFromEachOther(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(20, 1)
	w.AdmitMany(2)
	other := queue.NewLines(testkit.Redis(t).Client(), queue.DefaultPrefix) // the side that was promoted
	elsewhere := reconcile.New(w.DB, other, orders.Cap, slog.New(slog.DiscardHandler), w.Clock.Now)
	require.NoError(t, elsewhere.Reconcile(w.Ctx))
	epoch, _ := w.Get()
	for range 3 {
		require.ErrorIs(t, w.Reconciler.Reconcile(w.Ctx), reconcile.ErrElsewhere)
		require.NoError(t, elsewhere.Reconcile(w.Ctx))
	}
	after, _ := w.Get()
	require.Equal(t, epoch.Epoch, after.Epoch)
	_, err := w.Ask("ann", 1)
	require.ErrorIs(t, err, queue.ErrNotReady)
	w.Clock.Advance(time.Minute)
	require.NoError(t, w.Reconciler.Reconcile(w.Ctx), "the other is gone for good")
	w.Admit("ann", 1)
}
