package testkit

import (
	"database/sql"
	"os"
	"syscall"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"
)

func open(t *testing.T, d Database) *sql.DB {
	t.Helper()
	driver := map[string]string{"sqlite": "sqlite", "mysql": "mysql", "postgres": "pgx"}[d.Driver]
	db, err := sql.Open(driver, d.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func run(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement)
	require.NoError(t, err, statement)
}

func TestDatabasesAreEmptyAndGoWithTheirTest(t *testing.T) {
	t.Parallel()
	var gone []Database
	t.Run("a test with databases", func(t *testing.T) {
		for range 2 { // the second set is as empty as the first
			for _, d := range Databases(t) {
				run(t, open(t, d), "CREATE TABLE thing (id BIGINT PRIMARY KEY)")
				gone = append(gone, d)
			}
		}
	})
	require.Len(t, gone, 6)
	seen := map[string]bool{}
	for _, d := range gone {
		require.False(t, seen[d.DSN], "%s was handed out twice", d.DSN)
		seen[d.DSN] = true
		if d.Driver == "sqlite" {
			require.NoFileExists(t, d.DSN)
			continue
		}
		require.Error(t, open(t, d).PingContext(t.Context()), d.DSN)
	}
}

// The variables are unset, so this test starts the shared servers itself.
func TestSharedServersStartOnFirstUseAndStop(t *testing.T) {
	t.Setenv("SLUICE_TEST_MYSQL_DSN", "")
	t.Setenv("SLUICE_TEST_POSTGRES_DSN", "")
	require.NoError(t, stopShared())
	var pids []int
	t.Run("use", func(t *testing.T) {
		first := Databases(t)
		require.Len(t, shared.servers, 2)
		for _, server := range shared.servers {
			pids = append(pids, server.PID())
		}
		for i, d := range Databases(t) {
			require.NotEqual(t, first[i].DSN, d.DSN)
			run(t, open(t, d), "CREATE TABLE thing (id BIGINT PRIMARY KEY)")
		}
		for i, name := range []string{"mysql", "postgres"} {
			require.Contains(t, pids, shared.servers[name].PID(), "a second use starts no second server %d", i)
		}
	})
	require.NoError(t, stopShared())
	require.Len(t, pids, 2)
	for _, pid := range pids {
		require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	}
}

func TestDatabasesUseTheServerOfTheEnvironment(t *testing.T) {
	server := PrivatePostgres(t)
	t.Setenv("SLUICE_TEST_POSTGRES_DSN", server.Database().DSN)
	d := NewDatabase(t, "postgres")
	require.Contains(t, d.DSN, server.Addr())
	require.NotEqual(t, server.Database().DSN, d.DSN)
	run(t, open(t, d), "CREATE TABLE thing (id BIGINT PRIMARY KEY)")
}

func TestPrivateServersKeepCommitsOverAKill(t *testing.T) {
	t.Parallel()
	for _, start := range []func(testing.TB) *DatabaseServer{PrivateMySQL, PrivatePostgres} {
		server := start(t)
		t.Run(server.Database().Driver, func(t *testing.T) {
			db := open(t, server.Database())
			run(t, db, "CREATE TABLE thing (id BIGINT PRIMARY KEY)")
			run(t, db, "INSERT INTO thing VALUES (1), (2), (3)")
			addr := server.Addr()
			for range 2 {
				server.Kill()
				require.Error(t, db.PingContext(t.Context()))
				server.Start()
				require.Equal(t, addr, server.Addr())
				var n int
				require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM thing").Scan(&n))
				require.Equal(t, 3, n)
			}
			server.Stop()
			require.Zero(t, server.PID())
		})
	}
}

// verdict is a testing.TB that keeps a failure instead of reporting it.
type verdict struct {
	testing.TB
	fatal string
}

func (v *verdict) Helper() {}

func (v *verdict) Fatal(args ...any) {
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			v.fatal += err.Error()
		}
	}
	panic(v)
}

func TestAMissingProgramFailsTheTestAndNamesItsPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	v := &verdict{TB: t}
	require.PanicsWithValue(t, v, func() { Redis(v) })
	require.Contains(t, v.fatal, "install the Debian package redis-server")
	require.NotContains(t, v.fatal, os.TempDir())
}
