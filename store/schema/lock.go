package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"sluice/store"
)

const (
	// mysqlLockName is at most 64 characters and belongs to one database of the server.
	mysqlLockName = "CONCAT('sluice.migrate.', LEFT(DATABASE(), 40))"
	// postgresLockKey is any number no other program on the database uses; the lock belongs to one database.
	postgresLockKey = 7_583_421_096
)

// lockAttempts bounds how long the pauses between two tries of the lock grow.
const lockAttempts = 5

// migrationWait bounds the wait for another migrating instance.
const migrationWait = time.Minute

// errMigrating says that the wait for the lock timed out.
var errMigrating = errors.New("it still holds the lock after a minute, try again when it has ended")

// lockMigrations waits up to a minute for the migration lock. It returns the function that releases it. The locks of
// goose come too late. Before them it creates its version table, which MySQL cannot do in a transaction.
func (db *Schema) lockMigrations(ctx context.Context, pool *sql.DB) (release func() error, err error) {
	switch db.Driver {
	case store.MySQL:
		release, err = lockMySQL(ctx, pool)
	case store.Postgres:
		release, err = lockPostgres(ctx, pool)
	default:
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("wait for another instance that migrates: %w", err)
	}
	return release, nil
}

// lockMySQL takes a lock of the session, which ends at the latest with the pool.
func lockMySQL(ctx context.Context, pool *sql.DB) (release func() error, err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK("+mysqlLockName+", 60)").Scan(&got); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if got.Int64 != 1 {
		return nil, errors.Join(errMigrating, conn.Close())
	}
	if err := dropHalfVersionTable(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn.Close, nil
}

// dropHalfVersionTable removes a version table without its first row, which a crash has left, so that goose creates
// both again.
func dropHalfVersionTable(ctx context.Context, conn *sql.Conn) error {
	var tables, rows int
	err := conn.QueryRowContext(ctx,
		"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
		versionTable).Scan(&tables)
	if err != nil || tables == 0 {
		return err
	}
	if err := conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+versionTable).Scan(&rows); err != nil || rows > 0 {
		return err
	}
	_, err = conn.ExecContext(ctx, "DROP TABLE "+versionTable)
	return err
}

// lockPostgres takes a lock of a transaction, which a pooler cannot leave behind in a session. It polls instead of
// waiting in the server. Many waiting instances would use up a pooler's sessions, and the migrating one needs another.
func lockPostgres(ctx context.Context, pool *sql.DB) (release func() error, err error) {
	wait, cancel := context.WithTimeout(ctx, migrationWait)
	defer cancel()
	for attempt := 1; ; attempt = min(attempt+1, lockAttempts) {
		release, err := tryPostgres(ctx, pool)
		if err != nil || release != nil {
			return release, err
		}
		if store.Pause(wait, attempt) == nil {
			continue
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errMigrating
	}
}

// tryPostgres returns the function that releases the lock, or nil when another process has it. The lock also ends with
// ctx.
func tryPostgres(ctx context.Context, pool *sql.DB) (release func() error, err error) {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	var got bool
	err = tx.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock($1)", int64(postgresLockKey)).Scan(&got)
	if err == nil && got {
		// This transaction is idle while the tables change, however long that takes.
		_, err = tx.ExecContext(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0")
	}
	if err != nil || !got {
		return nil, errors.Join(err, tx.Rollback())
	}
	return tx.Rollback, nil
}
