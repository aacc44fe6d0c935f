package queue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
)

// Every question to several lines is answered line by line.
func TestQuestionsToSeveralLinesAreAnsweredOneByOne(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		rdb := testkit.ProductClient(t, addr)
		broken, well := boxOn(t, rdb, "broken", queues.OpenSale()), boxOn(t, rdb, "well", queues.OpenSale())
		order := well.Enqueue(2)
		for _, name := range []string{"wait", "due", "holders"} {
			broken.Overwrite(name)
		}
		sales := []string{"broken", "well", "missing"}
		views, failed := well.Lines.Views(well.Ctx, sales)
		require.ErrorContains(t, failed[0], "WRONGTYPE")
		require.NoError(t, errors.Join(failed[1:]...))
		require.EqualValues(t, 2, views[1].Waiting)

		overdue, faults := well.Lines.Overdue(well.Ctx, sales, 10, time.Second)
		require.ErrorContains(t, faults["broken"], "WRONGTYPE")
		require.Len(t, faults, 1)
		require.Contains(t, overdue, "well")

		held, faults := well.Lines.HeldBy(well.Ctx, sales, "user-00001")
		require.ErrorContains(t, faults["broken"], "WRONGTYPE")
		require.Len(t, faults, 1)
		require.Equal(t, map[string][]string{"well": {order[0]}}, held)
	})
}
