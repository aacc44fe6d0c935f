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

// migrateAttempts bounds how often a migration that lost a race against another process on the same SQLite file
// starts over.
const migrateAttempts = 12

// Schema is the tables of one open database, as this build knows them. Safe for concurrent use.
type Schema struct {
	*store.DB
	log   *slog.Logger
	files fs.FS // the migrations
}

// Of returns the schema of an open database.
func Of(db *store.DB) *Schema { return &Schema{DB: db, log: db.Log(), files: migrationFiles} }

// Migration is one schema change this binary carries.
type Migration struct {
	Version   int64
	Name      string
	Contract  bool      // it takes away what builds that do not know it still use
	Note      string    // what an operator should know before it is applied; most have none
	AppliedAt time.Time // zero while pending
	Pending   bool
}

// Registry returns processes that the database does not know of itself. Nil knows of none.
type Registry func(ctx context.Context) ([]Process, error)

// Migrated is what a call of MigrateBeside did and what it left for later.
type Migrated struct {
	Applied []Migration
	Waiting []Migration // contracting ones
	For     []Process   // the processes they wait for
}

// Migrate is MigrateBeside with nobody but the processes that the database knows of. It returns how many it applied.
func (db *Schema) Migrate(ctx context.Context) (int, error) {
	done, err := db.MigrateBeside(ctx, nil)
	return len(done.Applied), err
}

// MigrateBeside applies what is pending, in order, beside the processes that run. Contracting migrations wait while a
// process runs that does not know them. Nothing is applied while one runs whose build tells no range, in a database
// that holds tables of others, or in one that this build must not use: each is an error that says what to do.
//
// Several instances may call it at once: one works, the others wait for it (at most a minute) and find nothing left.
// It is bounded only by ctx, for a change may take long.
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
		// SQLite has no lock that outlives a transaction: the loser of a race fails on what the winner has just made.
		if errors.As(err, &refused) || db.Driver != store.SQLite || store.Pause(ctx, attempt) != nil {
			break
		}
	}
	return done, fmt.Errorf("migrate %s database: %w", db.Driver, err)
}

// nothingToDo spares the common start the lock: everything is applied, or only contracting migrations are left that
// have to wait.
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

// migrateOnce works on a pool of its own: migrations need other timeouts than orders, and its end frees the lock.
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
	if err := db.own(ctx, pool); err != nil {
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
		if one.Note != "" && m.standing.Table != "" { // in a new database there is nothing to be long about
			m.db.log.WarnContext(ctx, "a migration begins", "migration", one.Name, "note", one.Note)
		}
		_, err := m.provider.ApplyVersion(ctx, one.Version, true)
		if errors.Is(err, goose.ErrAlreadyApplied) {
			continue // another process on the same SQLite file was first
		}
		if err != nil {
			return err
		}
		if one.Contract {
			m.standing.Least = one.Version
		}
		m.done.Applied = append(m.done.Applied, one)
	}
	// The table of announcements may be younger than what was announced first.
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
