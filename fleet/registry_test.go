package fleet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/fleet"
	"sluice/internal/testkit/tables"
	"sluice/store"
)

func TestRegistryNamesEveryProcess(t *testing.T) {
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) { registryNames(t, tables.Open(t, d)) })
	}
}

func registryNames(t *testing.T, db *store.DB) {
	registry := fleet.NewRegistry(db)
	long := strings.Repeat("é", 200)
	numbers := map[int64]string{}
	for _, name := range []string{"host-1", "host-1", long} {
		n, err := registry.Enrol(t.Context(), name, "gateway,worker", "v1", time.Now())
		require.NoError(t, err)
		require.Positive(t, n)
		require.NotContains(t, numbers, n, "no two processes share one")
		numbers[n] = strings.Repeat("é", 128)
		if name != long {
			numbers[n] = name
		}
	}
	asked := []int64{-1, 1 << 40}
	for n := range numbers {
		asked = append(asked, n)
	}
	names, err := registry.Names(t.Context(), asked)
	require.NoError(t, err)
	require.Equal(t, numbers, names)
}

// Only so many are remembered, and no number is ever given twice.
func TestTheRegistryForgetsTheOldest(t *testing.T) {
	t.Parallel()
	db := tables.Open(t, tables.New(t, store.SQLite))
	registry := fleet.NewRegistry(db)
	first, err := registry.Enrol(t.Context(), "first", "", "", time.Now())
	require.NoError(t, err)
	second, err := registry.Enrol(t.Context(), "second", "", "", time.Now())
	require.NoError(t, err)
	require.NoError(t, db.Write.Exec("UPDATE sqlite_sequence SET seq = ? WHERE name = 'instances'", first+100_000-1).
		Error)
	last, err := registry.Enrol(t.Context(), "last", "", "", time.Now())
	require.NoError(t, err)
	names, err := registry.Names(t.Context(), []int64{first, second, last})
	require.NoError(t, err)
	require.Equal(t, map[int64]string{second: "second", last: "last"}, names)
}
