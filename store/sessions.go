package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"sync"
	"time"

	driverpkg "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// sessions keeps a pool free of connections that will never work again. Rights, settings and the server behind an
// address are fixed when a session begins: what was refused for one of these stays refused on it after the cause is
// mended.
// Safe for concurrent use.
type sessions struct {
	now   func() time.Time
	mu    sync.Mutex
	since time.Time // sessions that began before are not used again
}

// retireEvery bounds how often all connections of a pool are opened anew while a refusal stands.
const retireEvery = 250 * time.Millisecond

func newSessions(now func() time.Time) *sessions { return &sessions{now: now} }

// retire ends the use of all sessions that are open now, since they share what one of them was refused for.
func (s *sessions) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); now.Sub(s.since) >= retireEvery {
		s.since = now
	}
}

// retired reports whether a session that began at born is no longer used.
func (s *sessions) retired(born time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return born.Before(s.since)
}

// sessionSpent reports that a refusal is of the session or of the server behind it, and will be repeated on it.
func sessionSpent(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return postgresSpent(pg.Code)
	}
	var my *driverpkg.MySQLError
	return errors.As(err, &my) && mysqlSpent(my.Number)
}

// postgresSpent knows authorization (28), operator intervention but a cancelled statement (57P), a broken protocol
// (08), and read_only_sql_transaction: a standby, or a default that the session took over when it began.
func postgresSpent(code string) bool {
	return strings.HasPrefix(code, "28") || strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "08") ||
		code == "25006"
}

// mysqlSpent knows what a session of MySQL, MariaDB or a proxy is refused for as long as it lasts.
func mysqlSpent(number uint16) bool {
	switch number {
	case 1044, 1045, 1142, 1143, 1227, 1370, 1698, 3118, 4151: // rights are read when a session begins
		return true
	case 1969, 3024: // the limit of a statement's time is read then, too
		return true
	case 1820, 1862: // the password must be changed, or has expired
		return true
	case 1290, 1792, 1836, 1598, 1665, 1785: // read-only; a format of the binary log that this session began with
		return true
	case 1047, 1053, 1927, 3032, 3100, 3101, 3169: // this node takes no part in its cluster, goes down or offline
		return true
	case 1105, 9001, 9002, 9003, 9005, 9006: // Vitess and ProxySQL: what is behind this session
		return true
	}
	return false
}

// bornKey is where a connection of pgx keeps when it began.
const bornKey = "sluice.born"

// openPostgres is stdlib.OpenDB for a pool without spent sessions.
func (s *sessions) openPostgres(cfg pgx.ConnConfig) *sql.DB {
	fatal := cfg.OnPgError
	cfg.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if postgresSpent(err.Code) {
			// Who is not let in says nothing about those who are in: born is set once a session stands.
			if _, stands := conn.CustomData()[bornKey]; stands {
				s.retire()
			}
			return false // closes this one
		}
		return fatal == nil || fatal(conn, err)
	}
	return stdlib.OpenDB(cfg,
		stdlib.OptionAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
			conn.PgConn().CustomData()[bornKey] = s.now()
			return nil
		}),
		stdlib.OptionResetSession(func(_ context.Context, conn *pgx.Conn) error {
			if born, ok := conn.PgConn().CustomData()[bornKey].(time.Time); ok && s.retired(born) {
				return driver.ErrBadConn
			}
			return nil
		}))
}

// openMySQL is sql.OpenDB for a pool without spent sessions.
func (s *sessions) openMySQL(connector driver.Connector) *sql.DB {
	return sql.OpenDB(mysqlConnector{connector, s})
}
