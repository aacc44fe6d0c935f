package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

const (
	// mysqlLockName is at most 64 characters and belongs to one database of the server.
	mysqlLockName = "CONCAT('sluice.migrate.', LEFT(DATABASE(), 40))"
	// postgresLockKey is any number no other program on the database uses; the lock belongs to one database.
	postgresLockKey = 7_583_421_096
)

// lockMigrations waits up to a minute to be the only migrating instance and returns what ends that. goose's own lockers come
// too late: it creates its version table, which MySQL cannot do in a transaction, before it takes them. SQLite gets no lock.
func (db *DB) lockMigrations(ctx context.Context, pool *sql.DB) (release func() error, err error) {
	lock := map[string]func(context.Context, *sql.Conn) error{MySQL: lockMySQL, Postgres: lockPostgres}[db.Driver]
	if lock == nil {
		return func() error { return nil }, nil
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	// The session's end frees the lock: the pool is closed right after, whatever happened.
	if err := lock(ctx, conn); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for another instance that migrates: %w", err), conn.Close())
	}
	return conn.Close, nil
}

func lockMySQL(ctx context.Context, conn *sql.Conn) error {
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK("+mysqlLockName+", 60)").Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return errors.New("it still holds the lock after a minute, try again when it has ended")
	}
	return dropHalfVersionTable(ctx, conn)
}

// dropHalfVersionTable removes a version table without its first row, left by a crash between the two, so that goose makes
// both again.
func dropHalfVersionTable(ctx context.Context, conn *sql.Conn) error {
	var tables, rows int
	err := conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
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

func lockPostgres(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "SET lock_timeout = '60s'"); err != nil {
		return err
	}
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(postgresLockKey))
	return err
}
