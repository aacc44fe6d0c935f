package inventory_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/inventory"
)

func TestRoster(t *testing.T) {
	eachDatabase(t, func(w *world) {
		registry := inventory.NewRegistry(w.db)
		long := strings.Repeat("é", 200)
		numbers := map[int64]string{}
		for _, name := range []string{"host-1", "host-1", long} {
			n, err := registry.Enrol(w.ctx, name, "gateway,worker", "v1", time.Now())
			require.NoError(w.t, err)
			require.Positive(w.t, n)
			require.NotContains(w.t, numbers, n, "no two processes share one")
			numbers[n] = strings.Repeat("é", 128)
			if name != long {
				numbers[n] = name
			}
		}
		asked := []int64{-1, 1 << 40}
		for n := range numbers {
			asked = append(asked, n)
		}
		names, err := registry.Names(w.ctx, asked)
		require.NoError(w.t, err)
		require.Equal(w.t, numbers, names)
	})
}

// Only so many are remembered, and no number is ever given twice.
func TestTheRosterForgetsTheOldest(t *testing.T) {
	w := onSQLite(t)
	registry := inventory.NewRegistry(w.db)
	first, err := registry.Enrol(w.ctx, "first", "", "", time.Now())
	require.NoError(t, err)
	second, err := registry.Enrol(w.ctx, "second", "", "", time.Now())
	require.NoError(t, err)
	require.NoError(t, w.db.Write.Exec("UPDATE sqlite_sequence SET seq = ? WHERE name = 'instances'", first+100_000-1).
		Error)
	last, err := registry.Enrol(w.ctx, "last", "", "", time.Now())
	require.NoError(t, err)
	names, err := registry.Names(w.ctx, []int64{first, second, last})
	require.NoError(t, err)
	require.Equal(t, map[int64]string{second: "second", last: "last"}, names)
}
