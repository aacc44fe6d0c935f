package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// The values of Config.Pooler, which concern only PostgreSQL.
const (
	PoolerAuto        = "auto"        // recognise PgBouncer when the database is opened
	PoolerNone        = "none"        // each connection is one session of the server
	PoolerTransaction = "transaction" // a pooler may give each transaction another session
)

// sessionTimeouts returns the settings that a pooler refuses or ignores when a connection starts.
func sessionTimeouts() []string {
	return []string{"idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout"}
}

// openRecognised opens the database. If database.pooler is auto and there is a pooler, it opens it again for that.
func openRecognised(ctx context.Context, db *DB) error {
	err := db.openOnce(ctx)
	if db.Driver != Postgres || db.cfg.Pooler != PoolerAuto {
		return withPoolerHint(err)
	}
	pooled := refusedAsPooler(err)
	if err == nil {
		pooled, err = db.ignoresStart(ctx)
	}
	if !pooled {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	db.log.InfoContext(ctx, "a connection pooler is in front of PostgreSQL: database.pooler auto becomes transaction")
	db.cfg.Pooler = PoolerTransaction
	return withPoolerHint(db.openOnce(ctx))
}

// refusedAsPooler reports whether err is PgBouncer's refusal of a setting that PostgreSQL accepts.
func refusedAsPooler(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && strings.Contains(refused.Message, "unsupported startup parameter")
}

func withPoolerHint(err error) error {
	if !refusedAsPooler(err) {
		return err
	}
	return fmt.Errorf("%w: a connection pooler is in front of PostgreSQL: set database.pooler to transaction, "+
		"and settings that the DSN names by ALTER ROLE … SET instead", err)
}

// ignoresStart reports whether the server did not get the connection's start settings. Then a pooler swallowed them,
// and may give a later transaction another session. The query leaves no prepared statement behind.
func (db *DB) ignoresStart(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.TxTimeout)
	defer cancel()
	var source sql.NullString
	err := db.Pool().QueryRowContext(ctx, "SELECT source FROM pg_settings WHERE name = 'lock_timeout'",
		pgx.QueryExecModeSimpleProtocol).Scan(&source)
	if err != nil {
		return false, fmt.Errorf("ask for the settings of the connection: %w", err)
	}
	return source.Valid && source.String != "client", nil
}

// behindPooler returns a connector for sessions that may change with each transaction. It prepares nothing by name and
// sets the timeouts of pg in each transaction.
func behindPooler(pg *pgx.ConnConfig, statement time.Duration) driver.Connector {
	pg.RuntimeParams = maps.Clone(pg.RuntimeParams)
	var local strings.Builder
	for _, name := range slices.Sorted(slices.Values(sessionTimeouts())) {
		if value, ok := pg.RuntimeParams[name]; ok {
			local.WriteString("; set local " + name + " = '" + strings.ReplaceAll(value, "'", "''") + "'")
			delete(pg.RuntimeParams, name)
		}
	}
	// A cached description could be of an older version of a table, so each statement sends its types.
	pg.DefaultQueryExecMode = pgx.QueryExecModeExec
	pg.StatementCacheCapacity, pg.DescriptionCacheCapacity = 0, 0
	if statement > 0 {
		pg.Tracer = statementLimit(statement)
	}
	return perTransaction{Connector: stdlib.GetConnector(*pg), local: local.String()}
}

// statementLimit is a bound for each statement, in place of the session's statement_timeout.
type statementLimit time.Duration

type cancelKey struct{}

// TraceQueryStart gives the statement a deadline, at which the driver cancels it and drops the connection.
func (l statementLimit) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(l))
	return context.WithValue(ctx, cancelKey{}, cancel)
}

// TraceQueryEnd ends the deadline. The driver also calls it after the last row was read.
func (statementLimit) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if cancel, ok := ctx.Value(cancelKey{}).(context.CancelFunc); ok {
		cancel()
	}
}

// perTransaction is a connector whose connections begin each transaction with local settings.
type perTransaction struct {
	driver.Connector
	local string
}

func (p perTransaction) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	own, ok := conn.(*stdlib.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("postgres driver connection %T is not pgx's", conn), conn.Close())
	}
	return pooledConn{Conn: own, local: p.local}, nil
}

// pooledConn is a connection to a pooler.
type pooledConn struct {
	*stdlib.Conn
	local string
}

// BeginTx begins a transaction and sets its timeouts in one round trip.
func (c pooledConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if c.Conn.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	begin := "begin"
	if level := sql.IsolationLevel(opts.Isolation); level != sql.LevelDefault {
		begin += " isolation level " + level.String()
	}
	if opts.ReadOnly {
		begin += " read only"
	}
	tx, err := c.Conn.Conn().BeginTx(ctx, pgx.TxOptions{BeginQuery: begin + c.local})
	if err != nil {
		return nil, err
	}
	return pooledTx{ctx, tx}, nil
}

// PrepareContext returns an error: a later transaction may get a session without the prepared statement.
func (pooledConn) PrepareContext(context.Context, string) (driver.Stmt, error) {
	return nil, errors.New("a statement cannot be prepared behind a connection pooler")
}

// pooledTx ends with the context of its beginning, as database/sql expects.
type pooledTx struct {
	ctx context.Context
	tx  pgx.Tx
}

func (t pooledTx) Commit() error   { return t.tx.Commit(t.ctx) }
func (t pooledTx) Rollback() error { return t.tx.Rollback(t.ctx) }
