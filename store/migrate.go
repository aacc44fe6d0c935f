package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*/*.sql
var migrationFiles embed.FS

// versionTable is goose's default; changing it would run every migration again.
const versionTable = "goose_db_version"

// migrateAttempts bounds how often a migration that lost a race against another process on the same SQLite file starts over.
const migrateAttempts = 5

// Migration is one schema change this binary carries.
type Migration struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero while pending
	Pending   bool
}

// Migrate applies what is pending, in order, and returns how many it applied. Several instances may call it at once: one works,
// the others wait for it (at most a minute) and find nothing left. It is bounded only by ctx, for a change may take long.
func (db *DB) Migrate(ctx context.Context) (int, error) {
	var err error
	for attempt := 1; attempt <= migrateAttempts; attempt++ {
		var results []*goose.MigrationResult
		if results, err = db.migrateOnce(ctx); err == nil {
			return len(results), nil
		}
		// SQLite has no lock that outlives a transaction: the loser of a race fails on what the winner has just made.
		if db.Driver != SQLite || pause(ctx, attempt) != nil {
			break
		}
	}
	return 0, fmt.Errorf("migrate %s database: %w", db.Driver, err)
}

// migrateOnce works on a pool of its own: migrations need other timeouts than orders, and its end frees the lock.
func (db *DB) migrateOnce(ctx context.Context) (_ []*goose.MigrationResult, err error) {
	pool, err := db.migrationPool()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	release, err := db.lockMigrations(ctx, pool)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	files, err := fs.Sub(migrationFiles, path.Join("migrations", db.Driver))
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(db.gooseDialect(), pool, files,
		goose.WithSlog(db.log), goose.WithDisableGlobalRegistry(true), goose.WithTableName(versionTable))
	if err != nil {
		return nil, err
	}
	return provider.Up(ctx)
}

func (db *DB) migrationPool() (*sql.DB, error) {
	switch db.Driver {
	case MySQL:
		return mysqlPool(db.cfg, true)
	case Postgres:
		return postgresPool(db.cfg, true)
	default:
		return sql.Open("sqlite", sqliteURI(db.cfg.DSN, "immediate", "synchronous(FULL)", "foreign_keys(1)"))
	}
}

func (db *DB) gooseDialect() goose.Dialect {
	switch db.Driver {
	case MySQL:
		return goose.DialectMySQL
	case Postgres:
		return goose.DialectPostgres
	default:
		return goose.DialectSQLite3
	}
}
