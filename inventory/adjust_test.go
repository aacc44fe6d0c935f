package inventory_test

import (
	"log/slog"
	"sync"
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

func moves(w *orders.World) (deltas []int64) {
	w.T.Helper()
	require.NoError(w.T, w.DB.Read.Table("stock_moves").Order("id").Pluck("delta", &deltas).Error)
	return deltas
}

func TestAnAdjustmentIsMadeOnceUnderItsKey(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(10, 1)
		w.Create(orders.NewSale("other", 10, 1))
		more := inventory.Adjustment{Sale: orders.Sale, Delta: 5, Actor: "ann", Reason: "found a box",
			Key: "box-1"}
		var together sync.WaitGroup
		results, errs := make([]inventory.Adjusted, 6), make([]error, 6)
		for i := range results {
			together.Go(func() { results[i], errs[i] = w.Sales.AdjustStock(w.Ctx, more) })
		}
		together.Wait()
		made := 0
		for i, r := range results {
			require.NoError(w.T, errs[i])
			require.EqualValues(w.T, 15, r.Stock.Total)
			if !r.Repeated {
				made++
			}
		}
		require.Equal(w.T, 1, made)

		another := more
		another.Delta = 6
		_, err := w.Sales.AdjustStock(w.Ctx, another)
		require.ErrorIs(w.T, err, inventory.ErrOtherAdjustment)
		elsewhere := more
		elsewhere.Sale = "other"
		after, err := w.Sales.AdjustStock(w.Ctx, elsewhere)
		require.NoError(w.T, err)
		require.False(w.T, after.Repeated, "a key is a sale's own")

		_, _, err = w.Sales.SetState(w.Ctx, orders.Sale, inventory.Closed, "ann", "")
		require.NoError(w.T, err)
		after, err = w.Sales.AdjustStock(w.Ctx, more)
		require.NoError(w.T, err, "what was made is answered so, also when it could no longer be made")
		require.True(w.T, after.Repeated)
		require.Equal(w.T, []int64{10, 10, 5, 5}, moves(w))
		w.CatchUp()
		w.Clean()
	})
}

// The answer to the commit is lost after the database has made the change: the operator is told what is true, and
// nothing is doubled.
func TestAnAdjustmentWhoseCommitGotNoAnswer(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{store.MySQL, store.Postgres} {
		for _, heals := range []bool{true, false} {
			t.Run(driver, func(t *testing.T) {
				t.Parallel()
				d := tables.New(t, driver)
				w := orders.NewEmpty(t, d, testkit.Embedded(t).Addr())
				w.Create(orders.NewSale(orders.Sale, 10, 1))
				proxy, cfg := proxied(t, d)
				db, err := store.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
				require.NoError(t, err)
				t.Cleanup(func() { _ = db.Close() })
				require.NoError(t, db.Write.Callback().Create().After("gorm:create").
					Register("lose", func(tx *gorm.DB) {
						if tx.Statement.Table == "admin_log" {
							proxy.DropReplies(true) // the commit is next
						}
					}))
				saleStore := inventory.NewSaleStore(db, func() time.Time {
					if heals {
						proxy.DropReplies(false)
					}
					return time.Now()
				})
				more := inventory.Adjustment{Sale: orders.Sale, Delta: 5, Actor: "ann", Reason: "found a box",
					Key: "box-1"}
				after, err := saleStore.AdjustStock(t.Context(), more)
				if heals {
					require.NoError(t, err)
					require.EqualValues(t, 15, after.Stock.Total)
				} else {
					require.ErrorIs(t, err, inventory.ErrMaybeAdjusted)
					proxy.DropReplies(false)
					heals = true
					after, err = saleStore.AdjustStock(t.Context(), more)
					require.NoError(t, err)
					require.True(t, after.Repeated)
				}
				require.Equal(t, []int64{10, 5}, moves(w))
			})
		}
	}
}

// proxied puts a proxy before a database server and returns the configuration that goes through it.
func proxied(t *testing.T, d testkit.Database) (*testkit.Proxy, store.Config) {
	t.Helper()
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.TxTimeout = d.Driver, time.Second
	proxy, dsn := testkit.Proxied(t, d)
	cfg.DSN = dsn
	return proxy, cfg
}
