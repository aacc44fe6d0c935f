package store_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/store"
)

func TestInsertIgnoreSkipsEveryConflictAndNothingElse(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		existing := []order{newOrder(7), newOrder(250)}
		for i := range existing {
			existing[i].BatchID = "earlier"
		}
		require.NoError(t, db.Write.Create(&existing).Error)

		rows := make([]order, 500)
		for i := range rows {
			rows[i] = newOrder(i) // 7 and 250 conflict on the primary key
		}
		rows[499].UserID = "user-0003" // conflicts on (sale, user, slot), with a row of the same statement
		var inserted int64
		require.NoError(t, db.Tx(t.Context(), func(tx *gorm.DB) error {
			result := store.InsertIgnore(tx).Create(&rows)
			inserted = result.RowsAffected
			return result.Error
		}))
		require.EqualValues(t, 497, inserted)
		var ids []string
		require.NoError(t, db.Read.Model(&order{}).Where("batch_id = ?", "b1").Pluck("id", &ids).Error)
		require.Len(t, ids, 497)
		require.NotContains(t, ids, "order-0007")
		require.NotContains(t, ids, "order-0499")
		require.Contains(t, ids, "order-0003")

		bad := []order{newOrder(600), newOrder(7), newOrder(601)}
		bad[2].Currency = "too long"
		err := store.InsertIgnore(db.Write).Create(&bad).Error
		require.Error(t, err)
		require.False(t, store.Unavailable(err), "%v", err)
		var count int64
		require.NoError(t, db.Read.Model(&order{}).Where("id IN ?", []string{"order-0600", "order-0601"}).
			Count(&count).Error)
		require.Zero(t, count, "the statement fails as a whole")
	})
}

func TestSlotIsFreeOnceNull(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		first, second := newOrder(1), newOrder(2)
		second.UserID = first.UserID
		require.NoError(t, db.Write.Create(&first).Error)
		err := db.Write.Create(&second).Error
		require.True(t, store.Duplicate(err), "%v", err)
		require.NoError(t, db.Write.Model(&first).Update("slot", nil).Error)
		require.NoError(t, db.Write.Create(&second).Error)
	})
}

func TestStringsCompareByByte(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		lower, upper := newOrder(1), newOrder(2)
		lower.UserID, upper.UserID = "é", "É"
		require.NoError(t, db.Write.Create(&lower).Error)
		require.NoError(t, db.Write.Create(&upper).Error)
	})
}

func TestStockNeverGoesBelowZero(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		seedStock(t, db, "s1", 100)
		var taken atomic.Int64
		errs := make([]error, 8)
		var takers sync.WaitGroup
		for i := range errs {
			takers.Go(func() {
				for n := 0; n < 20 && errs[i] == nil; n++ {
					errs[i] = db.Tx(t.Context(), func(tx *gorm.DB) error {
						result := takeStock(tx, "s1", 1)
						if result.Error == nil {
							taken.Add(result.RowsAffected)
						}
						return result.Error
					})
				}
			})
		}
		takers.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		require.EqualValues(t, 100, taken.Load())
		require.Zero(t, available(t, db, "s1"))
	})
}

func TestForUpdateMakesOthersWait(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		seedStock(t, db, "s1", 10)
		increment := func(tx *gorm.DB) error {
			var n int64
			if err := store.ForUpdate(tx.Table("stock")).Select("available").Where("sale_id = ?", "s1").Scan(&n).
				Error; err != nil {
				return err
			}
			return tx.Exec("UPDATE stock SET available = ? WHERE sale_id = ?", n-1, "s1").Error
		}
		errs := make([]error, 4)
		var workers sync.WaitGroup
		for i := range errs {
			workers.Go(func() { errs[i] = db.Tx(t.Context(), increment) })
		}
		workers.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		require.EqualValues(t, 6, available(t, db, "s1"))
	})
}

func TestMaxRowsFitsOneStatement(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		require.Equal(t, 500, db.MaxRows(19))
		require.Equal(t, 1, db.MaxRows(1_000_000))
		require.Equal(t, 500, db.MaxRows(0))
	})
	lite := open(t, config(testkit.NewDatabase(t, store.SQLite)))
	require.Equal(t, 327, lite.MaxRows(100))
}
