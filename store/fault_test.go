package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/store"
	"sluice/store/schema"
)

// proxied starts a proxy in front of a database server and returns the configuration to use it.
func proxied(t *testing.T, d testkit.Database) (*testkit.Proxy, store.Config) {
	t.Helper()
	cfg := config(d)
	proxy, dsn := testkit.Proxied(t, d)
	cfg.DSN = dsn
	return proxy, cfg
}

func networkDrivers() []string { return []string{store.MySQL, store.Postgres} }

func TestNetworkFaultsAreTheDatabases(t *testing.T) {
	t.Parallel()
	for _, driver := range networkDrivers() {
		t.Run(driver, func(t *testing.T) {
			proxy, cfg := proxied(t, testkit.NewDatabase(t, driver))
			db := open(t, cfg)
			_, err := schema.Of(db).Migrate(t.Context())
			require.NoError(t, err)
			seedStock(t, db, "s1", 100)

			cutAt := func(before bool) error {
				err := db.Tx(t.Context(), func(tx *gorm.DB) error {
					if before {
						proxy.Cut()
						return takeStock(tx, "s1", 1).Error
					}
					err := takeStock(tx, "s1", 1).Error
					proxy.Cut()
					return err
				})
				require.NoError(t, proxy.Heal())
				return err
			}
			for _, before := range []bool{true, false} {
				err := cutAt(before)
				require.Error(t, err)
				require.True(t, store.Unavailable(err), "%T %v", err, err)
			}
			require.NoError(t, db.Ping(t.Context()), "the pool recovers by itself")
			require.EqualValues(t, 100, available(t, db, "s1"))
		})
	}
}

func TestRefusedAndSilentServers(t *testing.T) {
	t.Parallel()
	for _, driver := range networkDrivers() {
		t.Run(driver, func(t *testing.T) {
			proxy, cfg := proxied(t, testkit.NewDatabase(t, driver))
			cfg.TxTimeout = time.Second
			db := open(t, cfg)
			proxy.Cut()
			err := db.Ping(t.Context())
			require.True(t, store.Unavailable(err), "refused: %T %v", err, err)
			require.NoError(t, proxy.Heal())

			require.NoError(t, db.Ping(t.Context()))
			started := time.Now()
			err = db.Tx(t.Context(), func(tx *gorm.DB) error {
				proxy.Pause()
				return tx.Exec("SELECT 1").Error
			})
			require.True(t, store.Unavailable(err), "silent: %T %v", err, err)
			require.Less(t, time.Since(started), 4*cfg.TxTimeout)
			proxy.Resume()
		})
	}
}

func TestReplyToCommitLost(t *testing.T) {
	t.Parallel()
	for _, driver := range networkDrivers() {
		t.Run(driver, func(t *testing.T) {
			proxy, cfg := proxied(t, testkit.NewDatabase(t, driver))
			cfg.TxTimeout = time.Second
			db := open(t, cfg)
			_, err := schema.Of(db).Migrate(t.Context())
			require.NoError(t, err)
			seedStock(t, db, "s1", 100)
			runs := 0
			err = db.Tx(t.Context(), func(tx *gorm.DB) error {
				runs++
				err := takeStock(tx, "s1", 1).Error
				proxy.DropReplies(true)
				return err
			})
			proxy.DropReplies(false)
			require.True(t, store.Unavailable(err), "%T %v", err, err)
			require.Equal(t, 1, runs, "an unknown outcome is the caller's to repeat")
			require.Eventually(t, func() bool { return db.Ping(t.Context()) == nil }, 10*time.Second,
				10*time.Millisecond)
			require.EqualValues(t, 99, available(t, db, "s1"), "the commit had arrived")
		})
	}
}

func TestKilledConnection(t *testing.T) {
	t.Parallel()
	kill := map[string][2]string{
		store.MySQL:    {"SELECT CONNECTION_ID()", "KILL CONNECTION %d"},
		store.Postgres: {"SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%d)"},
	}
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		if db.Driver == store.SQLite {
			return // SQLite has no connection to kill
		}
		seedStock(t, db, "s1", 1)
		err := db.Tx(t.Context(), func(tx *gorm.DB) error {
			var id int64
			require.NoError(t, tx.Raw(kill[db.Driver][0]).Scan(&id).Error)
			require.NoError(t, db.Write.Exec(fmt.Sprintf(kill[db.Driver][1], id)).Error)
			return takeStock(tx, "s1", 1).Error
		})
		require.True(t, store.Unavailable(err), "%T %v", err, err)
		require.EqualValues(t, 1, available(t, db, "s1"))
	})
}

func TestServerKilledAndBack(t *testing.T) {
	t.Parallel()
	servers := map[string]func(testing.TB) *testkit.DatabaseServer{store.MySQL: testkit.PrivateMySQL,
		store.Postgres: testkit.PrivatePostgres}
	for _, driver := range networkDrivers() {
		t.Run(driver, func(t *testing.T) {
			server := servers[driver](t)
			db := open(t, config(server.Database()))
			_, err := schema.Of(db).Migrate(t.Context())
			require.NoError(t, err)
			seedStock(t, db, "s1", 10)
			take := func(tx *gorm.DB) error { return takeStock(tx, "s1", 1).Error }
			err = db.Tx(t.Context(), func(tx *gorm.DB) error {
				server.Kill()
				return take(tx)
			})
			require.True(t, store.Unavailable(err), "inside: %T %v", err, err)
			err = db.Tx(t.Context(), take)
			require.True(t, store.Unavailable(err), "refused: %T %v", err, err)
			server.Start()
			require.Eventually(t, func() bool { return db.Tx(t.Context(), take) == nil }, 20*time.Second,
				50*time.Millisecond)
			require.EqualValues(t, 9, available(t, db, "s1"))
		})
	}
}

// crossLocks makes two transactions take the same two locks in opposite order.
func crossLocks(t *testing.T, begin func(fn func(*gorm.DB) error) error) (runs int64, errs [2]error) {
	t.Helper()
	var count atomic.Int64
	var meet, both sync.WaitGroup
	meet.Add(2)
	for i, order := range [2][2]string{{"s1", "s2"}, {"s2", "s1"}} {
		both.Go(func() {
			first := true
			errs[i] = begin(func(tx *gorm.DB) error {
				count.Add(1)
				if err := takeStock(tx, order[0], 1).Error; err != nil {
					return err
				}
				if first {
					first = false
					meet.Done()
					meet.Wait()
				}
				return takeStock(tx, order[1], 1).Error
			})
		})
	}
	both.Wait()
	return count.Load(), errs
}

func TestDeadlockIsRunAgain(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t)[1:] {
		t.Run(d.Driver, func(t *testing.T) {
			cfg := config(d)
			cfg.TxTimeout = time.Minute // or a busy machine has a reason more to run one again
			db := open(t, cfg)
			_, err := schema.Of(db).Migrate(t.Context())
			require.NoError(t, err)
			seedStock(t, db, "s1", 10)
			seedStock(t, db, "s2", 10)

			_, errs := crossLocks(t, func(fn func(*gorm.DB) error) error {
				return db.Write.WithContext(t.Context()).
					Transaction(fn)
			})
			failed := errs[0]
			if failed == nil {
				failed = errs[1]
			}
			require.Error(t, failed)
			require.True(t, store.Unavailable(failed), "%T %v", failed, failed)
			require.EqualValues(t, 9, available(t, db, "s1"))

			runs, errs := crossLocks(t, func(fn func(*gorm.DB) error) error { return db.Tx(t.Context(), fn) })
			require.NoError(t, errs[0])
			require.NoError(t, errs[1])
			require.EqualValues(t, 3, runs)
			require.EqualValues(t, 7, available(t, db, "s1"))
			require.EqualValues(t, 7, available(t, db, "s2"))
		})
	}
}

func TestLockHeldElsewhere(t *testing.T) {
	t.Parallel()
	onEveryConfig(t, func(t *testing.T, db *store.DB, cfg store.Config) {
		seedStock(t, db, "s1", 10)
		cfg.TxTimeout = 300 * time.Millisecond
		other := open(t, cfg)
		err := db.Tx(t.Context(), func(tx *gorm.DB) error {
			require.NoError(t, takeStock(tx, "s1", 1).Error)
			started := time.Now()
			err := other.Tx(t.Context(), func(tx *gorm.DB) error { return takeStock(tx, "s1", 1).Error })
			require.True(t, store.Unavailable(err), "%T %v", err, err)
			require.Less(t, time.Since(started), 3*time.Second)
			return nil
		})
		require.NoError(t, err)
		require.EqualValues(t, 9, available(t, db, "s1"))
	})
}
