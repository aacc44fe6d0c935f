package store_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/store"
	"sluice/store/schema"
)

// behindPgBouncer returns the configurations of an empty PostgreSQL database with and without a PgBouncer.
func behindPgBouncer(t *testing.T, pooler string, extra ...string) (pooled, direct store.Config) {
	t.Helper()
	d := testkit.NewDatabase(t, store.Postgres)
	pooled, direct = config(testkit.PgBouncer(t, d, extra...)), config(d)
	pooled.Pooler = pooler
	return pooled, direct
}

// ignoring makes PgBouncer ignore unknown settings, as its documentation suggests.
const ignoring = "ignore_startup_parameters = lock_timeout,statement_timeout,idle_in_transaction_session_timeout"

func TestPgBouncerIsRecognised(t *testing.T) {
	t.Parallel()
	for name, extra := range map[string][]string{"it refuses": nil, "it ignores": {ignoring}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pooled, direct := behindPgBouncer(t, store.PoolerAuto, extra...)
			for _, cfg := range []store.Config{pooled, direct} {
				var log bytes.Buffer
				db, err := store.Open(t.Context(), cfg, slog.New(slog.NewTextHandler(&log, nil)))
				require.NoError(t, err)
				defer db.Close()
				require.Equal(t, cfg.DSN == pooled.DSN, bytes.Contains(log.Bytes(), []byte("becomes transaction")),
					log.String())
				_, err = schema.Of(db).Migrate(t.Context())
				require.NoError(t, err)
				require.NoError(t, schema.Of(db).Ready(t.Context()))
			}
		})
	}
}

func TestAPoolerThatIsRuledOutIsNamedWithItsKey(t *testing.T) {
	t.Parallel()
	pooled, _ := behindPgBouncer(t, store.PoolerNone)
	_, err := store.Open(t.Context(), pooled, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "unsupported startup parameter")
	require.ErrorContains(t, err, "set database.pooler to transaction")

	pooled.Pooler, pooled.DSN = store.PoolerTransaction, pooled.DSN+"&search_path=shop"
	_, err = store.Open(t.Context(), pooled, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "unsupported startup parameter: search_path")
	require.ErrorContains(t, err, "ALTER ROLE")
}

// TestManyMigrateThroughPgBouncerAtOnce uses a small pool, so that all share sessions.
func TestManyMigrateThroughPgBouncerAtOnce(t *testing.T) {
	t.Parallel()
	pooled, direct := behindPgBouncer(t, store.PoolerTransaction, "default_pool_size = 2")
	var instances sync.WaitGroup
	var applied atomic.Int64
	errs := make([]error, 6)
	for i := range errs {
		db := open(t, pooled)
		instances.Go(func() {
			n, err := schema.Of(db).Migrate(t.Context())
			applied.Add(int64(n))
			errs[i] = err
		})
	}
	instances.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	db := open(t, direct)
	all, err := schema.Of(db).MigrationStatus(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(all), applied.Load())
	var locks int64
	require.NoError(t, db.Read.Raw("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "+
		"(SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&locks).Error)
	require.Zero(t, locks, "the migration lock is left in a session of the pool")
}

// TestTheMigrationLockIsTheOneOfOlderVersions checks that an older version, which locks in a session, and this one
// exclude each other behind a pooler.
func TestTheMigrationLockIsTheOneOfOlderVersions(t *testing.T) {
	t.Parallel()
	pooled, direct := behindPgBouncer(t, store.PoolerTransaction)
	older, err := open(t, direct).Pool().Conn(t.Context())
	require.NoError(t, err)
	_, err = older.ExecContext(t.Context(), "SELECT pg_advisory_lock(7583421096)")
	require.NoError(t, err)

	db := open(t, pooled)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = schema.Of(db).Migrate(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "wait for another instance that migrates")
	_, err = older.ExecContext(t.Context(), "SELECT pg_advisory_unlock(7583421096)")
	require.NoError(t, err)
	require.NoError(t, older.Close())
	_, err = schema.Of(db).Migrate(t.Context())
	require.NoError(t, err)
}

// settings returns the settings in force in tx.
func settings(t *testing.T, tx *gorm.DB) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range []string{"lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout",
		"TimeZone"} {
		var value string
		require.NoError(t, tx.Raw("SELECT current_setting(?::text)", name).Scan(&value).Error)
		found[name] = value
	}
	return found
}

func TestTimeoutsHoldInEachTransactionBehindPgBouncer(t *testing.T) {
	t.Parallel()
	pooled, direct := behindPgBouncer(t, store.PoolerTransaction, "default_pool_size = 2")
	_, err := schema.Of(open(t, direct)).Migrate(t.Context())
	require.NoError(t, err)
	db, plain := open(t, pooled), open(t, direct)
	var want map[string]string
	require.NoError(t, plain.Tx(t.Context(), func(tx *gorm.DB) error { want = settings(t, tx); return nil }))
	require.Equal(t, "5s", want["lock_timeout"])
	for range 3 {
		require.NoError(t, db.Tx(t.Context(), func(tx *gorm.DB) error {
			require.Equal(t, want, settings(t, tx))
			return nil
		}))
		require.NoError(t, db.Snapshot(t.Context(), func(tx *gorm.DB) error {
			require.Equal(t, want, settings(t, tx))
			var level string
			require.NoError(t, tx.Raw("SELECT current_setting('transaction_isolation') || "+
				"current_setting('transaction_read_only')").Scan(&level).Error)
			require.Equal(t, "repeatable readon", level)
			return nil
		}))
		require.Equal(t, "0", settings(t, db.Read)["lock_timeout"], "a session of the pool has kept a setting")
	}
}

func TestALockWaitEndsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	pooled, _ := behindPgBouncer(t, store.PoolerTransaction)
	pooled.DSN += "&lock_timeout=200ms"
	pooled.TxTimeout = time.Minute
	db := open(t, pooled)
	_, err := schema.Of(db).Migrate(t.Context())
	require.NoError(t, err)
	seedStock(t, db, "s1", 10)
	err = db.Tx(t.Context(), func(tx *gorm.DB) error {
		require.NoError(t, takeStock(tx, "s1", 1).Error)
		started := time.Now()
		err := db.Tx(t.Context(), func(tx *gorm.DB) error { return takeStock(tx, "s1", 1).Error })
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "55P03", refused.Code)
		require.True(t, store.Unavailable(err))
		require.Less(t, time.Since(started), 20*time.Second)
		return nil
	})
	require.NoError(t, err)
	require.EqualValues(t, 9, available(t, db, "s1"))
}

func TestAReadOutsideATransactionEndsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	pooled, direct := behindPgBouncer(t, store.PoolerTransaction)
	pooled.TxTimeout = 100 * time.Millisecond
	db, plain := open(t, pooled), open(t, direct)
	err := db.Read.WithContext(t.Context()).Exec("SELECT pg_sleep(60)").Error
	require.Error(t, err)
	require.True(t, store.Unavailable(err), "%v", err)
	require.Eventually(t, func() bool {
		var running int64
		err := plain.Read.Raw("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query " +
			"LIKE 'SELECT pg_sleep%'" +
			" AND state = 'active'").Scan(&running).Error
		return err == nil && running == 0
	}, 20*time.Second, 20*time.Millisecond, "the server still works for nobody")
	require.NoError(t, db.Ping(t.Context()))
}

func TestNothingIsPreparedByNameBehindPgBouncer(t *testing.T) {
	t.Parallel()
	pooled, direct := behindPgBouncer(t, store.PoolerTransaction, "default_pool_size = 2")
	db := open(t, pooled)
	_, err := schema.Of(db).Migrate(t.Context())
	require.NoError(t, err)
	var at sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		at.Go(func() {
			errs[i] = db.Tx(t.Context(), func(tx *gorm.DB) error {
				for n := range 20 {
					one := newOrder(i*100 + n)
					if err := tx.Create(&one).Error; err != nil {
						return err
					}
				}
				var count int64
				return tx.Table("orders").Where("sale_id = ?", "s1").Count(&count).Error
			})
		})
	}
	at.Wait()
	for i, err := range errs {
		require.NoError(t, err, fmt.Sprint(i))
	}
	var rows int64
	require.NoError(t, open(t, direct).Read.Raw("SELECT count(*) FROM orders").Scan(&rows).Error)
	require.EqualValues(t, 160, rows)
	_, err = db.Pool().PrepareContext(t.Context(), "SELECT 1")
	require.ErrorContains(t, err, "cannot be prepared behind a connection pooler")
}
