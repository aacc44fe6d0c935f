package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/store"
)

// Any number of rows goes in, around the sizes of prepared statements too; those that conflict are left out and not counted.
func TestBulkInsert(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			db := open(t, config(d))
			require.NoError(t, db.Write.Exec("CREATE TABLE things (id VARCHAR(20) NOT NULL PRIMARY KEY, lot VARCHAR(20) NOT NULL, n BIGINT NOT NULL, kind BIGINT NOT NULL, note VARCHAR(9) NOT NULL DEFAULT 'none')").Error)
			columns := func(lot string, from, to int) (shared, own []store.Column) {
				ids, numbers := []string{}, []int64{}
				for i := from; i < to; i++ {
					ids, numbers = append(ids, fmt.Sprintf("thing-%06d", i)), append(numbers, int64(i))
				}
				return []store.Column{{Name: "lot", Texts: []string{lot}}, {Name: "kind", Ints: []int64{int64(len(lot))}}},
					[]store.Column{{Name: "id", Texts: ids}, {Name: "n", Ints: numbers}}
			}
			shared, own := columns("", 0, 1)
			bulk := db.NewBulk("things", shared, own)
			require.NoError(t, bulk.Prepare(t.Context()))
			insert := func(lot string, from, to int) (n int64) {
				shared, own := columns(lot, from, to)
				require.NoError(t, db.Tx(t.Context(), func(tx *gorm.DB) (err error) {
					n, err = bulk.Insert(tx, shared, own)
					return err
				}))
				return n
			}
			total := 0
			for _, size := range []int{1, 249, 250, 251, 2047, 2301} {
				require.EqualValues(t, size, insert("first", total, total+size))
				total += size
			}
			require.EqualValues(t, 0, insert("second", 0, 300), "all are there")
			require.EqualValues(t, 7, insert("second", total-500, total+7), "seven are new")
			var found []thing
			require.NoError(t, db.Read.Order("id").Find(&found).Error)
			require.Len(t, found, total+7)
			for i, one := range found {
				want := thing{ID: fmt.Sprintf("thing-%06d", i), Lot: "first", N: int64(i), Kind: 5, Note: "none"}
				if i >= total {
					want.Lot, want.Kind = "second", 6
				}
				require.Equal(t, want, one)
			}
		})
	}
}

type thing struct {
	ID, Lot string
	N, Kind int64
	Note    string
}
