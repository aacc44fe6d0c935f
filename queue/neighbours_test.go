package queue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// overwrite gives a key of a line a type that no script expects.
func (b *box) overwrite(name string) {
	b.t.Helper()
	require.NoError(b.t, b.rdb.Del(b.ctx, b.key(name)).Err())
	if name == "stock" {
		require.NoError(b.t, b.rdb.RPush(b.ctx, b.key(name), "no number").Err())
		return
	}
	require.NoError(b.t, b.rdb.Set(b.ctx, b.key(name), "of a wrong type", 0).Err())
}

// Every question to several lines is answered line by line.
func TestQuestionsToSeveralLinesAreAnsweredOneByOne(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		rdb := testkit.ProductClient(t, addr)
		broken, well := boxOn(t, rdb, "broken", openSale()), boxOn(t, rdb, "well", openSale())
		order := well.enqueue(2)
		for _, name := range []string{"wait", "due", "holders"} {
			broken.overwrite(name)
		}
		sales := []string{"broken", "well", "missing"}
		views, failed := well.lines.Views(well.ctx, sales)
		require.ErrorContains(t, failed[0], "WRONGTYPE")
		require.NoError(t, errors.Join(failed[1:]...))
		require.EqualValues(t, 2, views[1].Waiting)

		overdue, faults := well.lines.Overdue(well.ctx, sales, 10, time.Second)
		require.ErrorContains(t, faults["broken"], "WRONGTYPE")
		require.Len(t, faults, 1)
		require.Contains(t, overdue, "well")

		held, faults := well.lines.HeldBy(well.ctx, sales, "user-00001")
		require.ErrorContains(t, faults["broken"], "WRONGTYPE")
		require.Len(t, faults, 1)
		require.Equal(t, map[string][]string{"well": {order[0]}}, held)
	})
}
