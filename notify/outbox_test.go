package notify_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/outbox"
	"sluice/internal/testkit/tables"
	"sluice/notify"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m, tables.Clear) }

func TestWhereIDsSelectsExactlyTheseRows(t *testing.T) {
	t.Parallel()
	outbox.OnEveryDatabase(t, func(t *testing.T, b *outbox.Bench) {
		b.Insert(t, "a", 200)
		for name, ids := range map[string][]int64{"none": {}, "one": {7}, "a run": outbox.Span(10, 90),
			"apart":              {1, 3, 5, 200},
			"unsorted and mixed": append(append(outbox.Span(100, 130), 3, 9), outbox.Span(40, 60)...)} {
			var found []int64
			require.NoError(t, notify.WhereIDs(b.DB.Read, ids).Order("id").Pluck("id", &found).Error, name)
			slices.Sort(ids)
			require.ElementsMatch(t, ids, found, name)
		}
	})
}
