package schema_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/store"
	"sluice/store/schema"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			db := open(t, config(d))
			require.ErrorContains(t, db.Ready(t.Context()), "run `sluice migrate up`")
			before, err := db.MigrationStatus(t.Context())
			require.NoError(t, err)
			require.Equal(t, schema.Migration{Version: 1, Name: "0001_init", Pending: true}, before[0])
			require.False(t, db.Read.Migrator().HasTable("sluice_schema"), "asking must not change the database")

			applied, err := db.Migrate(t.Context())
			require.NoError(t, err)
			require.Equal(t, len(before), applied)
			require.NoError(t, db.Ready(t.Context()))

			after, err := db.MigrationStatus(t.Context())
			require.NoError(t, err)
			for i, m := range after {
				require.True(t, before[i].Pending)
				require.False(t, m.Pending)
				require.WithinDuration(t, time.Now(), m.AppliedAt, time.Minute)
			}

			applied, err = db.Migrate(t.Context())
			require.NoError(t, err)
			require.Zero(t, applied)
		})
	}
}

func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			var instances sync.WaitGroup
			var total atomic.Int64
			all, err := open(t, config(d)).MigrationStatus(t.Context())
			require.NoError(t, err)
			errs := make([]error, 4)
			for i := range errs {
				db := open(t, config(d))
				instances.Go(func() {
					n, err := db.Migrate(t.Context())
					total.Add(int64(n))
					errs[i] = err
				})
			}
			instances.Wait()
			for _, err := range errs {
				require.NoError(t, err)
			}
			require.EqualValues(t, len(all), total.Load())
		})
	}
}

func TestUnreachableIsNotEmpty(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *schema.Schema) {
		require.NoError(t, db.Close())
		_, err := db.MigrationStatus(t.Context())
		require.Error(t, err)
		require.True(t, store.Unavailable(err), "%v", err)
	})
}

func TestMigrateAfterACrashInItsFirstStep(t *testing.T) {
	t.Parallel()
	db := open(t, config(testkit.NewDatabase(t, store.MySQL)))
	require.NoError(t,
		db.Write.Exec(`CREATE TABLE goose_db_version (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		version_id BIGINT NOT NULL, is_applied BOOLEAN NOT NULL, tstamp DATETIME NULL DEFAULT CURRENT_TIMESTAMP)`).
			Error)
	require.Error(t, db.Ready(t.Context()))
	_, err := db.Migrate(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.Ready(t.Context()))

	// DDL commits by itself: a crash before the version is recorded leaves the columns behind.
	require.NoError(t, db.Write.Exec("DELETE FROM sluice_schema WHERE version_id >= 2").Error)
	_, err = db.Migrate(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.Ready(t.Context()))
}
