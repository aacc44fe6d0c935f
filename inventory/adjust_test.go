package inventory_test

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/store"
)

func (w *world) moves() (deltas []int64) {
	w.t.Helper()
	require.NoError(w.t, w.db.Read.Table("stock_moves").Order("id").Pluck("delta", &deltas).Error)
	return deltas
}

func TestAnAdjustmentIsMadeOnceUnderItsKey(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(10, 1)
		w.create(newSale("other", 10, 1))
		more := inventory.Adjustment{Sale: theSale, Delta: 5, Actor: "ann", Reason: "found a box", Key: "box-1"}
		var together sync.WaitGroup
		results, errs := make([]inventory.Adjusted, 6), make([]error, 6)
		for i := range results {
			together.Go(func() { results[i], errs[i] = w.saleStore.AdjustStock(w.ctx, more) })
		}
		together.Wait()
		made := 0
		for i, r := range results {
			require.NoError(w.t, errs[i])
			require.EqualValues(w.t, 15, r.Stock.Total)
			if !r.Repeated {
				made++
			}
		}
		require.Equal(w.t, 1, made)

		another := more
		another.Delta = 6
		_, err := w.saleStore.AdjustStock(w.ctx, another)
		require.ErrorIs(w.t, err, inventory.ErrOtherAdjustment)
		elsewhere := more
		elsewhere.Sale = "other"
		after, err := w.saleStore.AdjustStock(w.ctx, elsewhere)
		require.NoError(w.t, err)
		require.False(w.t, after.Repeated, "a key is a sale's own")

		_, _, err = w.saleStore.SetState(w.ctx, theSale, inventory.Closed, "ann", "")
		require.NoError(w.t, err)
		after, err = w.saleStore.AdjustStock(w.ctx, more)
		require.NoError(w.t, err, "what was made is answered so, also when it could no longer be made")
		require.True(w.t, after.Repeated)
		require.Equal(w.t, []int64{10, 10, 5, 5}, w.moves())
		w.keep()
		w.clean()
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
				w := newWorld(t, d, testkit.Embedded(t).Addr())
				w.create(newSale(theSale, 10, 1))
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
				more := inventory.Adjustment{Sale: theSale, Delta: 5, Actor: "ann", Reason: "found a box", Key: "box-1"}
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
				require.Equal(t, []int64{10, 5}, w.moves())
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
