package schema_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/store"
	"sluice/store/schema"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

func config(d testkit.Database) store.Config {
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = d.Driver, d.DSN
	return cfg
}

func open(t *testing.T, cfg store.Config) *schema.Schema {
	t.Helper()
	db, err := store.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return schema.Of(db)
}

// onEveryDatabase runs the test on a migrated database of every driver.
func onEveryDatabase(t *testing.T, test func(t *testing.T, db *schema.Schema)) {
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			db := open(t, config(d))
			_, err := db.Migrate(t.Context())
			require.NoError(t, err)
			test(t, db)
		})
	}
}
