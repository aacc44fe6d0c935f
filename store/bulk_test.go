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

// A row that breaks a rule of the table is an error and no conflict, also among rows that do conflict.
func TestBulkInsertTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			db := open(t, config(d))
			require.NoError(t, db.Write.Exec("CREATE TABLE small (id VARCHAR(20) NOT NULL PRIMARY KEY, lot VARCHAR(9) NOT NULL, n BIGINT NOT NULL, CONSTRAINT small_n CHECK (n < 100))").Error)
			own := func(numbers ...int64) []store.Column {
				ids := make([]string, len(numbers))
				for i := range ids {
					ids[i] = fmt.Sprintf("small-%d", i)
				}
				return []store.Column{{Name: "id", Texts: ids}, {Name: "n", Ints: numbers}}
			}
			lot := []store.Column{{Name: "lot", Texts: []string{"a"}}}
			bulk := db.NewBulk("small", lot, own(1))
			require.NoError(t, bulk.Prepare(t.Context()))
			insert := func(columns []store.Column) (n int64, err error) {
				err = db.Tx(t.Context(), func(tx *gorm.DB) (err error) {
					n, err = bulk.Insert(tx, lot, columns)
					return err
				})
				return n, err
			}
			n, err := insert(own(1, 2))
			require.NoError(t, err)
			require.EqualValues(t, 2, n)
			_, err = insert(own(1, 2, 3, 100, 5))
			require.Error(t, err, "the fourth is too large")
			require.False(t, store.Duplicate(err))
			require.False(t, store.Unavailable(err))
			n, err = insert(own(1, 2, 3, 4, 5))
			require.NoError(t, err)
			require.EqualValues(t, 3, n, "nothing of the refused call has stayed")
		})
	}
}

type thing struct {
	ID, Lot string
	N, Kind int64
	Note    string
}
