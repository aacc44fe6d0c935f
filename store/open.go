// Package store opens the database and hides the differences of its three dialects. It knows nothing of orders and
// sales.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"
)

// DB is one open database, safe for concurrent use.
//
// Write is for all statements that change something, and for all reads inside a transaction. Read is for other reads.
// On SQLite it is a second pool that cannot write, elsewhere the same pool as Write.
type DB struct {
	Write  *gorm.DB
	Read   *gorm.DB
	Driver string

	cfg   Config
	log   *slog.Logger
	pools []*sql.DB
}

// opened is what a dialect returns: its pools (the writer first) and a dialector for each.
type opened struct {
	pools      []*sql.DB
	dialectors []gorm.Dialector
}

// Open connects and checks the connection with one ping. It neither creates nor changes tables (see store/schema). An
// error that is Unavailable may go away by itself; any other needs another configuration.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	db := &DB{Driver: cfg.Driver, cfg: cfg, log: log}
	if err := openRecognised(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s database, check database.dsn and that the server runs: %w",
			cfg.Driver, err), db.Close())
	}
	return db, nil
}

// openOnce opens the pools of the configuration and pings them.
func (db *DB) openOnce(ctx context.Context) error {
	o, err := openDialect(db.cfg)
	if err != nil {
		return err
	}
	db.pools = o.pools
	return db.connect(ctx, o.dialectors)
}

func openDialect(cfg Config) (opened, error) {
	switch cfg.Driver {
	case MySQL:
		return openMySQL(cfg)
	case Postgres:
		return openPostgres(cfg)
	default:
		return openSQLite(cfg)
	}
}

func (db *DB) connect(ctx context.Context, dialectors []gorm.Dialector) error {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.TxTimeout)
	defer cancel()
	handles := make([]*gorm.DB, 0, len(dialectors))
	for i, dialector := range dialectors {
		// The writer is first: it creates the SQLite file the read pool opens.
		if err := db.pools[i].PingContext(ctx); err != nil {
			return err
		}
		handle, err := gorm.Open(dialector, gormConfig(db.log))
		if err != nil {
			return err
		}
		handles = append(handles, handle)
	}
	db.Write, db.Read = handles[0], handles[len(handles)-1]
	return nil
}

// gormConfig returns a configuration without PrepareStmt. GORM's cache locks while it prepares, and closes statements
// that are in use when it evicts them. Batch inserts of each size would also fill it with texts that are used once.
func gormConfig(log *slog.Logger) *gorm.Config {
	return &gorm.Config{
		SkipDefaultTransaction: true,
		TranslateError:         true,
		DisableAutomaticPing:   true,
		Logger:                 newQueryLogger(log),
	}
}

// limit bounds a network pool. Connections are renewed, so that a fail-over to another address is noticed.
func limit(pool *sql.DB, maxConns int) {
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns(maxConns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(30 * time.Minute)
}

// Ping checks each pool for a working connection, within the transaction timeout.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.TxTimeout)
	defer cancel()
	for _, pool := range db.pools {
		if err := pool.PingContext(ctx); err != nil {
			return fmt.Errorf("ping %s database: %w", db.Driver, err)
		}
	}
	return nil
}

// Pool returns the pool for writes, for a metrics collector. Close it only through DB.
func (db *DB) Pool() *sql.DB { return db.pools[0] }

// MigrationPool opens a pool without short timeouts, for changes of the schema. The caller must close it.
func (db *DB) MigrationPool() (*sql.DB, error) {
	switch db.Driver {
	case MySQL:
		return mysqlPool(db.cfg, true)
	case Postgres:
		return postgresPool(db.cfg, true)
	default:
		return sql.Open("sqlite", sqliteURI(db.cfg.DSN, "immediate", "synchronous(FULL)", "foreign_keys(1)"))
	}
}

// Timeout returns database.tx_timeout, the bound of one attempt of a transaction.
func (db *DB) Timeout() time.Duration { return db.cfg.TxTimeout }

// Log returns the logger that Open was given.
func (db *DB) Log() *slog.Logger { return db.log }

// Close closes the pools, readers first, and waits for queries in progress. It may be called more than once.
func (db *DB) Close() error {
	var errs []error
	for i := len(db.pools) - 1; i >= 0; i-- {
		errs = append(errs, db.pools[i].Close())
	}
	return errors.Join(errs...)
}
