package inventory_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/invalid"
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

func TestAdjustStock(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(10, 1)
		w.AdmitMany(4)
		w.WorkOff(4)
		after, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 5, Actor: "ann",
			Reason: "found a box"})
		require.NoError(w.T, err)
		require.Equal(w.T, inventory.Stock{SaleID: orders.Sale, Total: 15, Available: 11, Changes: 2}, after.Stock)
		after, err = w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: -11, Actor: "ann",
			Reason: "water damage"})
		require.NoError(w.T, err)
		require.Equal(w.T, inventory.Stock{SaleID: orders.Sale, Total: 4, Available: 0, Changes: 3}, after.Stock)
		_, err = w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: -1, Actor: "ann",
			Reason: "one more"})
		require.ErrorIs(w.T, err, inventory.ErrShort, "sold units cannot be taken away")
		sale, stock := w.Get()
		require.EqualValues(w.T, 3, sale.Version)
		require.Equal(w.T, inventory.Adjusted{Sale: sale, Stock: stock}, after)

		var invalid invalid.Error
		for _, delta := range []int64{0, 1_000_000_000, 1_000_000_001, math.MinInt64, math.MaxInt64} {
			_, err = w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: delta, Actor: "ann",
				Reason: "why"})
			require.ErrorAs(w.T, err, &invalid, "%d", delta)
		}
		for _, reason := range []string{"", strings.Repeat("x", 201), "a\nb"} {
			_, err = w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 1, Actor: "ann",
				Reason: reason})
			require.ErrorAs(w.T, err, &invalid, "%q", reason)
		}
		_, err = w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: "nowhere", Delta: 1, Actor: "ann",
			Reason: "why"})
		require.ErrorIs(w.T, err, inventory.ErrNoSale)

		var moves []struct {
			Delta         int64
			Reason, Actor string
		}
		require.NoError(w.T, w.DB.Read.Table("stock_moves").Order("id").Find(&moves).Error)
		require.Equal(w.T, "[{10 created test} {5 found a box ann} {-11 water damage ann}]", fmt.Sprint(moves))
		entries := log(w)
		require.Len(w.T, entries, 3)
		was, is := logged[inventory.Stock](w.T, entries[2])
		require.Equal(w.T, []int64{15, 11, 4, 0}, []int64{was.Total, was.Available, is.Total, is.Available})
		w.CatchUp()
		w.Clean()
	})
}

func TestLedgerNeverBelowZero(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Create(orders.NewSale(orders.Sale, 100, 1))
		require.ErrorIs(w.T, w.DB.Tx(w.Ctx, func(tx *gorm.DB) error { return inventory.Return(tx, "nowhere", 1) }),
			inventory.ErrNoSale)
		require.ErrorIs(w.T, w.DB.Tx(w.Ctx, func(tx *gorm.DB) error {
			_, err := inventory.Take(tx, inventory.Taking{Sale: orders.Sale, Epoch: 0, Units: 101})
			return err
		}), inventory.ErrShort)
		require.ErrorIs(w.T, w.DB.Tx(w.Ctx, func(tx *gorm.DB) error {
			_, err := inventory.Take(tx, inventory.Taking{Sale: orders.Sale, Epoch: 7, Units: 1})
			return err
		}), inventory.ErrStale)
		require.Error(w.T, w.DB.Tx(w.Ctx, func(tx *gorm.DB) error { return inventory.Return(tx, orders.Sale, 1) }),
			"more than there ever was")

		var held atomic.Int64 // units taken and not returned
		var workers sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			workers.Go(func() {
				for n := range 25 {
					units := int64(n%7 + 1)
					err := w.DB.Tx(w.Ctx, func(tx *gorm.DB) error {
						_, err := inventory.Take(tx, inventory.Taking{Sale: orders.Sale, Units: units})
						return err
					})
					if err == nil {
						held.Add(units)
					} else if !errors.Is(err, inventory.ErrShort) {
						errs[i] = err
						return
					}
					if err == nil && n%4 == 0 {
						if errs[i] = w.DB.Tx(w.Ctx, func(tx *gorm.DB) error {
							return inventory.Return(tx, orders.Sale,
								units)
						}); errs[i] != nil {
							return
						}
						held.Add(-units)
					}
				}
			})
		}
		workers.Wait()
		for _, err := range errs {
			require.NoError(w.T, err)
		}
		_, stock := w.Get()
		require.Equal(w.T, 100-held.Load(), stock.Available)
		require.GreaterOrEqual(w.T, stock.Available, int64(0))
		require.Less(w.T, stock.Available, int64(7), "it was fought for to the end")
	})
}
