package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/store"
)

// TestBulkInsert inserts many numbers of rows, around the sizes of prepared statements. Conflicting rows are skipped
// and not counted.
func TestBulkInsert(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			db := open(t, config(d))
			require.NoError(t, db.Write.Exec("CREATE TABLE things (id VARCHAR(20) NOT NULL PRIMARY KEY, "+
				"lot VARCHAR(20) NOT NULL, n BIGINT NOT NULL, kind BIGINT NOT NULL, slot BIGINT, "+
				"note VARCHAR(9) NOT NULL DEFAULT 'none')").Error)
			bulk := store.NewBulk(db, store.Layout[thing]{Table: "things",
				Shared: []store.Field[thing]{
					{Name: "lot", Text: func(t *thing) string { return t.Lot }},
					{Name: "kind", Int: func(t *thing) int64 { return t.Kind }},
				},
				Own: []store.Field[thing]{
					{Name: "id", Text: func(t *thing) string { return t.ID }},
					{Name: "n", Int: func(t *thing) int64 { return t.N }},
					{Name: "slot", Null: true, Int: func(t *thing) int64 {
						if t.Slot == nil {
							return 0
						}
						return *t.Slot
					}},
				}})
			require.NoError(t, bulk.Prepare(t.Context()))
			insert := func(lot string, from, to int) (n int64) {
				rows := []thing{}
				for i := from; i < to; i++ {
					rows = append(rows, newThing(i, lot))
				}
				require.NoError(t, db.Tx(t.Context(), func(tx *gorm.DB) (err error) {
					n, err = bulk.Insert(tx, rows)
					return err
				}))
				return n
			}
			require.Zero(t, insert("first", 0, 0), "of no rows")
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
				want := newThing(i, "first")
				if i >= total {
					want = newThing(i, "second")
				}
				want.Note = "none"
				require.Equal(t, want, one)
			}
		})
	}
}

// TestBulkInsertTellsWhatIsWrong checks that a row that breaks a rule of the table is an error, even among conflicting
// rows.
func TestBulkInsertTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			db := open(t, config(d))
			require.NoError(t, db.Write.Exec("CREATE TABLE small (id VARCHAR(20) NOT NULL PRIMARY KEY, "+
				"lot VARCHAR(9) NOT NULL, n BIGINT NOT NULL, CONSTRAINT small_n CHECK (n < 100))").Error)
			bulk := store.NewBulk(db, store.Layout[thing]{Table: "small",
				Shared: []store.Field[thing]{{Name: "lot", Text: func(t *thing) string { return t.Lot }}},
				Own: []store.Field[thing]{
					{Name: "id", Text: func(t *thing) string { return t.ID }},
					{Name: "n", Int: func(t *thing) int64 { return t.N }},
				}})
			require.NoError(t, bulk.Prepare(t.Context()))
			insert := func(numbers ...int64) (n int64, err error) {
				rows := make([]thing, len(numbers))
				for i := range rows {
					rows[i] = thing{ID: fmt.Sprintf("small-%d", i), Lot: "a", N: numbers[i]}
				}
				err = db.Tx(t.Context(), func(tx *gorm.DB) (err error) {
					n, err = bulk.Insert(tx, rows)
					return err
				})
				return n, err
			}
			n, err := insert(1, 2)
			require.NoError(t, err)
			require.EqualValues(t, 2, n)
			_, err = insert(1, 2, 3, 100, 5)
			require.Error(t, err, "the fourth is too large")
			require.False(t, store.Duplicate(err))
			require.False(t, store.Unavailable(err))
			n, err = insert(1, 2, 3, 4, 5)
			require.NoError(t, err)
			require.EqualValues(t, 3, n, "nothing of the refused call has stayed")
		})
	}
}

type thing struct {
	ID, Lot string
	N, Kind int64
	Slot    *int64
	Note    string
}

// newThing returns the thing of a number. Every third has no slot.
func newThing(i int, lot string) thing {
	one := thing{ID: fmt.Sprintf("thing-%06d", i), Lot: lot, N: int64(i), Kind: int64(len(lot))}
	if slot := int64(i); i%3 > 0 {
		one.Slot = &slot
	}
	return one
}
