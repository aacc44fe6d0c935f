package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/store"
)

// TestTimeIsTheDatabases checks that every database says its time, in whatever zone it lives.
func TestTimeIsTheDatabases(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		asked := time.Now()
		there, err := db.Time(t.Context())
		require.NoError(t, err)
		require.WithinRange(t, there, asked.Add(-time.Second), time.Now().Add(time.Second), "it is on this machine")
	})
}
