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

// sessions keeps a pool free of connections that will never work again. A session's rights, settings and server are
// fixed when it begins. So it repeats a refusal for one of these even after the cause is mended. Safe for concurrent
// use.
type sessions struct {
	now   func() time.Time
	mu    sync.Mutex
	since time.Time // sessions that began before this are retired
}

// retireEvery is the least time between two retirements of a pool's connections.
const retireEvery = 250 * time.Millisecond

func newSessions(now func() time.Time) *sessions { return &sessions{now: now} }

// retire ends the use of all sessions that are open now, because all would repeat the refusal.
func (s *sessions) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); now.Sub(s.since) >= retireEvery {
		s.since = now
	}
}

// retired reports whether a session that began at born must not be used.
func (s *sessions) retired(born time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return born.Before(s.since)
}

// sessionSpent reports whether a session would repeat the refusal err.
func sessionSpent(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return postgresSpent(pg.Code)
	}
	var my *driverpkg.MySQLError
	return errors.As(err, &my) && mysqlSpent(my.Number)
}

// postgresSpent reports whether a session of PostgreSQL would repeat the error. Such are authorization (28), operator
// intervention (57P), a broken protocol (08) and read_only_sql_transaction.
func postgresSpent(code string) bool {
	return strings.HasPrefix(code, "28") || strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "08") ||
		code == "25006"
}

// mysqlSpent reports whether a session of MySQL, MariaDB or a proxy would repeat the error.
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
	case 1047, 1053, 1927, 3032, 3100, 3101, 3169: // this node is outside its cluster, stops or is offline
		return true
	case 1105, 9001, 9002, 9003, 9005, 9006: // Vitess and ProxySQL: the server behind this session
		return true
	}
	return false
}

// bornKey is the key of a pgx connection's start time in its custom data.
const bornKey = "sluice.born"

// openPostgres opens a pool without spent sessions, otherwise like stdlib.OpenDB.
func (s *sessions) openPostgres(cfg pgx.ConnConfig) *sql.DB {
	fatal := cfg.OnPgError
	cfg.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if postgresSpent(err.Code) {
			// A refused connection says nothing about open sessions. born is set only when a session is open.
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

// openMySQL opens a pool without spent sessions, otherwise like sql.OpenDB.
func (s *sessions) openMySQL(connector driver.Connector) *sql.DB {
	return sql.OpenDB(mysqlConnector{connector, s})
}
