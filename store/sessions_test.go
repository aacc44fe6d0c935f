package store_test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/store"
	"sluice/store/schema"
)

// filled opens connections until the pool has n, all with the present settings.
func filled(t *testing.T, db *store.DB, n int) {
	t.Helper()
	conns := make([]*sql.Conn, n)
	for i := range conns {
		conn, err := db.Pool().Conn(t.Context())
		require.NoError(t, err)
		conns[i] = conn
	}
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	require.Equal(t, n, db.Pool().Stats().Idle)
}

// refusedThenMended breaks the server, opens sessions, and mends it. It requires that writes succeed again although all
// sessions of the pool are older.
func refusedThenMended(t *testing.T, db *store.DB, breakIt, mend func()) {
	t.Helper()
	_, err := schema.Of(db).Migrate(t.Context())
	require.NoError(t, err)
	seedStock(t, db, "s1", 100)
	take := func() error {
		return db.Tx(t.Context(), func(tx *gorm.DB) error { return takeStock(tx, "s1", 1).Error })
	}
	breakIt()
	require.Eventually(t, func() bool { return take() != nil }, 10*time.Second, 10*time.Millisecond,
		"refused once a session began under it")
	filled(t, db, 8)
	err = take()
	require.True(t, store.Unavailable(err), "%v", err)
	require.False(t, store.RowFault(err), "%v", err)
	filled(t, db, 8)
	mend()
	require.Eventually(t, func() bool { return take() == nil }, 10*time.Second, 10*time.Millisecond,
		"on a session that began later")
	for range 8 {
		require.NoError(t, take())
	}
}

func TestSessionsOfAnotherBinlogFormatAreLeft(t *testing.T) {
	t.Parallel()
	server := testkit.PrivateMySQLWith(t, "--log-bin=bin", "--server-id=1")
	db, admin := open(t, config(server.Database())), open(t, config(server.Database()))
	set := func(format string) func() {
		return func() {
			require.NoError(t, admin.Write.Exec("SET GLOBAL binlog_format = "+format).Error)
			if format == "STATEMENT" {
				db.Pool().SetMaxIdleConns(0) // as if the sessions had been killed
				db.Pool().SetMaxIdleConns(16)
			}
		}
	}
	refusedThenMended(t, db, set("STATEMENT"), set("ROW"))
}

func TestSessionsOfAReadOnlyDatabaseAreLeft(t *testing.T) {
	t.Parallel()
	d := testkit.NewDatabase(t, store.Postgres)
	parsed, err := pgx.ParseConfig(d.DSN)
	require.NoError(t, err)
	db, admin := open(t, config(d)), open(t, config(d))
	alter := func(setting string) func() {
		return func() {
			// This transaction may write, whatever the new default is.
			err := admin.Write.Exec("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE").Error
			require.NoError(t, err)
			require.NoError(t, admin.Write.Exec("ALTER DATABASE "+parsed.Database+" "+setting).Error)
			if strings.HasPrefix(setting, "SET") {
				db.Pool().SetMaxIdleConns(0)
				db.Pool().SetMaxIdleConns(16)
			}
		}
	}
	refusedThenMended(t, db, alter("SET default_transaction_read_only = on"),
		alter("RESET default_transaction_read_only"))
}

// TestSessionsOfAnAccountAreLeft checks that an account without rights, or a locked one, works again as soon as it is
// mended.
func TestSessionsOfAnAccountAreLeft(t *testing.T) {
	t.Parallel()
	server := testkit.PrivateMySQLWith(t)
	admin := open(t, config(server.Database()))
	exec := func(statement string) func() {
		return func() { require.NoError(t, admin.Write.Exec(statement).Error) }
	}
	exec("CREATE USER shop@'%' IDENTIFIED BY 'secret'")()
	exec("GRANT ALL ON sluice.* TO shop@'%'")()
	cfg := config(server.Database())
	dsn, err := mysql.ParseDSN(cfg.DSN)
	require.NoError(t, err)
	dsn.User, dsn.Passwd = "shop", "secret"
	cfg.DSN = dsn.FormatDSN()
	db := open(t, cfg)
	refusedThenMended(t, db, func() {
		exec("REVOKE ALL ON sluice.* FROM shop@'%'")()
		exec("GRANT SELECT ON sluice.* TO shop@'%'")()
		db.Pool().SetMaxIdleConns(0)
		db.Pool().SetMaxIdleConns(16)
	}, exec("GRANT ALL ON sluice.* TO shop@'%'"))

	db.Pool().SetMaxIdleConns(0)
	exec("ALTER USER shop@'%' ACCOUNT LOCK")()
	err = db.Ping(t.Context())
	require.True(t, store.Unavailable(err), "%v", err)
	require.False(t, store.RowFault(err), "%v", err)
	exec("ALTER USER shop@'%' ACCOUNT UNLOCK")()
	require.NoError(t, db.Ping(t.Context()))
}
