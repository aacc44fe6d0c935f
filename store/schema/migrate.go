package schema

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"time"

	"sluice/store"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*/*.sql
var migrationFiles embed.FS

// migrateAttempts bounds how often a migration starts over after it lost a race for the same SQLite file.
const migrateAttempts = 12

// Schema checks and migrates the tables of one open database. Safe for concurrent use.
type Schema struct {
	*store.DB
	log   *slog.Logger
	files fs.FS // the migrations
}

// Of returns the schema of an open database.
func Of(db *store.DB) *Schema { return &Schema{DB: db, log: db.Log(), files: migrationFiles} }

// Migration is one schema change of this build.
type Migration struct {
	Version   int64
	Name      string
	Contract  bool      // it removes something that older builds use
	Note      string    // for operators, before it is applied; mostly empty
	AppliedAt time.Time // zero while pending
	Pending   bool
}

// Registry is a function that returns processes that the database does not know. It may be nil.
type Registry func(ctx context.Context) ([]Process, error)

// Migrated is the result of MigrateBeside: what it did and what it left for later.
type Migrated struct {
	Applied []Migration
	Waiting []Migration // contracting ones
	For     []Process   // the processes they wait for
}

// Migrate applies pending migrations like MigrateBeside, without a registry. It returns how many it applied.
func (db *Schema) Migrate(ctx context.Context) (int, error) {
	done, err := db.MigrateBeside(ctx, nil)
	return len(done.Applied), err
}

// MigrateBeside applies pending migrations, in order, while other processes run. Contracting migrations wait while a
// process runs that does not know them. It returns an error that says what to do in three cases. A running process
// announces no range, the database has foreign tables, or this build must not use it. Several instances may call it
// at once: one works, the others wait for it, at most a minute. Only ctx bounds it, because a change may take long.
func (db *Schema) MigrateBeside(ctx context.Context, registry Registry) (Migrated, error) {
	done, needed, err := db.nothingToDo(ctx, registry)
	if err != nil || !needed {
		return done, err
	}
	var applied []Migration
	for attempt := 1; attempt <= migrateAttempts; attempt++ {
		done, err = db.migrateOnce(ctx, registry)
		applied = append(applied, done.Applied...)
		if done.Applied = applied; err == nil {
			return done, nil
		}
		var refused *Error
		// SQLite has no lock that outlives a transaction: the loser of a race fails on the winner's tables.
		if errors.As(err, &refused) || db.Driver != store.SQLite || store.Pause(ctx, attempt) != nil {
			break
		}
	}
	return done, fmt.Errorf("migrate %s database: %w", db.Driver, err)
}

// nothingToDo reports needed if there is something to apply now. It spares most starts the lock.
func (db *Schema) nothingToDo(ctx context.Context, registry Registry) (_ Migrated, needed bool, err error) {
	m := migrator{db: db, registry: registry}
	if m.standing, err = db.Look(ctx); err != nil {
		return Migrated{}, false, err
	}
	if err := m.standing.Refuses(); err != nil {
		return Migrated{}, false, err
	}
	if m.standing.Table != versionTable || len(m.standing.Pending) > 0 {
		return Migrated{}, true, nil
	}
	for _, one := range m.standing.Waiting {
		users, err := m.usersOfOldForm(ctx, one)
		if err != nil || len(users) == 0 {
			return Migrated{}, err == nil, err
		}
		m.done.Waiting, m.done.For = append(m.done.Waiting, one), users
	}
	return m.done, false, nil
}

// migrateOnce migrates on a pool of its own, because migrations need other timeouts. The end of the pool releases the
// lock.
func (db *Schema) migrateOnce(ctx context.Context, registry Registry) (_ Migrated, err error) {
	pool, err := db.MigrationPool()
	if err != nil {
		return Migrated{}, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	release, err := db.lockMigrations(ctx, pool)
	if err != nil {
		return Migrated{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	m := migrator{db: db, registry: registry}
	if m.standing, err = db.Look(ctx); err != nil {
		return Migrated{}, err
	}
	if err := m.standing.Refuses(); err != nil {
		return Migrated{}, err
	}
	if err := m.beside(ctx); err != nil {
		return Migrated{}, err
	}
	if err := db.claimDatabase(ctx, pool); err != nil {
		return Migrated{}, err
	}
	if m.provider, err = db.provider(pool); err != nil {
		return Migrated{}, err
	}
	err = m.run(ctx)
	return m.done, err
}

func (db *Schema) provider(pool *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(db.files, path.Join("migrations", db.Driver))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(db.gooseDialect(), pool, files, goose.WithSlog(db.log),
		goose.WithDisableGlobalRegistry(true),
		goose.WithTableName(versionTable))
}

// migrator is one call of MigrateBeside that has the lock.
type migrator struct {
	db       *Schema
	registry Registry
	standing Standing
	provider *goose.Provider
	done     Migrated
}

func (m *migrator) run(ctx context.Context) error {
	for _, one := range m.standing.Complete {
		if !one.Pending {
			continue
		}
		if one.Contract {
			if waits, err := m.contracts(ctx, one); err != nil || waits {
				if err != nil {
					return err
				}
				continue
			}
		} else if err := m.db.announce(ctx, one.Version, 0); err != nil {
			return err
		}
		if one.Note != "" && m.standing.Table != "" { // in a new database every migration is quick
			m.db.log.WarnContext(ctx, "a migration begins", "migration", one.Name, "note", one.Note)
		}
		_, err := m.provider.ApplyVersion(ctx, one.Version, true)
		if errors.Is(err, goose.ErrAlreadyApplied) {
			continue // another process with the same SQLite file was first
		}
		if err != nil {
			return err
		}
		if one.Contract {
			m.standing.Least = one.Version
		}
		m.done.Applied = append(m.done.Applied, one)
	}
	// The table of announcements may have been created after the first announcement.
	return m.db.announce(ctx, m.standing.Range.Newest, 0)
}

func (db *Schema) gooseDialect() goose.Dialect {
	switch db.Driver {
	case store.MySQL:
		return goose.DialectMySQL
	case store.Postgres:
		return goose.DialectPostgres
	default:
		return goose.DialectSQLite3
	}
}
