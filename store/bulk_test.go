package store_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/store"
)

// Every size of statement is used, and each skips what conflicts: with a row that was there, and within itself.
func TestBulkInsertsManyAndSkipsConflicts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *store.DB) {
		existing := []order{newOrder(7), newOrder(1100), newOrder(1299)}
		for i := range existing {
			existing[i].BatchID = "earlier"
		}
		require.NoError(t, db.Write.Create(&existing).Error)
		rows := make([]order, 1000+200+50+49)
		for i := range rows {
			rows[i] = newOrder(i)
		}
		rows[999].UserID, rows[1298].UserID = "user-0003", "user-0004" // within one statement, and across two
		bulk := store.NewBulk[order](db)
		insert := func() (n int64) {
			require.NoError(t, db.Tx(t.Context(), func(tx *gorm.DB) (err error) {
				n, err = bulk.Insert(tx, rows)
				return err
			}))
			return n
		}
		require.NoError(t, bulk.Ready(t.Context()))
		require.EqualValues(t, len(rows)-4, insert())
		require.Zero(t, insert(), "all are there")
		var mine []order
		require.NoError(t, db.Read.Where("batch_id = ?", "b1").Order("id").Find(&mine).Error)
		require.Len(t, mine, len(rows)-4)
		require.Equal(t, rows[0], mine[0], "every column arrives")
	})
}

func TestBulkIsSharedByManyTransactions(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *store.DB) {
		bulk := store.NewBulk[order](db)
		var workers sync.WaitGroup
		for w := range 4 {
			workers.Go(func() {
				rows := make([]order, 300)
				for i := range rows {
					rows[i] = newOrder(1000*w + i)
				}
				if err := bulk.Ready(t.Context()); err != nil {
					t.Error(err)
				}
				err := db.Tx(t.Context(), func(tx *gorm.DB) error {
					n, err := bulk.Insert(tx, rows)
					if err == nil && n != 300 {
						err = fmt.Errorf("%d inserted", n)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		workers.Wait()
	})
}

func TestBulkFailsAsAWholeAndOnlyInTransactions(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *store.DB) {
		bulk := store.NewBulk[order](db)
		require.NoError(t, bulk.Ready(t.Context()))
		rows := make([]order, 60)
		for i := range rows {
			rows[i] = newOrder(i)
		}
		_, err := bulk.Insert(db.Write, rows)
		require.Error(t, err)
		rows[30].Currency = "too long"
		require.Error(t, db.Tx(t.Context(), func(tx *gorm.DB) error {
			_, err := bulk.Insert(tx, rows)
			return err
		}))
		var count int64
		require.NoError(t, db.Read.Model(&order{}).Count(&count).Error)
		require.Zero(t, count)
	})
}
