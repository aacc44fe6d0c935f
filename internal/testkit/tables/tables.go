// Package tables gives tests databases that have their tables already. The first of each driver gets them from the
// migrations. All others of the process begin as copies of it, which takes a fraction of the time.
package tables

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"sluice/internal/testkit"
	"sluice/store"
	"sluice/store/schema"
)

// originals are what the databases of one process are copied from, by driver. A process has one set of tests, hence
// the one variable.
var originals = struct {
	mu  sync.Mutex
	one map[string]*original
}{one: map[string]*original{}}

// original is a migrated database that nobody is connected to.
type original struct {
	once sync.Once
	err  error
	file []byte        // of sqlite
	kept *testkit.Kept // of the others
	copy string        // statements that make the tables of mysql
}

// Databases returns a database of every driver, with tables and without rows; each is removed when the test ends.
func Databases(t testing.TB) []testkit.Database {
	t.Helper()
	return []testkit.Database{New(t, store.SQLite), New(t, store.MySQL), New(t, store.Postgres)}
}

// New does for one driver what Databases does for all.
func New(t testing.TB, driver string) testkit.Database {
	t.Helper()
	o := of(driver)
	o.once.Do(func() {
		o.err = errors.New("a test that asked before could not have it") // should the first end in here
		o.err = o.make(t, driver)
	})
	if o.err != nil {
		t.Fatalf("make the tables of %s: %v", driver, o.err)
	}
	if driver == store.Postgres {
		return o.kept.Copy(t)
	}
	d := testkit.NewDatabase(t, driver)
	if err := o.fill(t.Context(), d); err != nil {
		t.Fatalf("copy the tables of %s: %v", driver, err)
	}
	return d
}

func of(driver string) *original {
	originals.mu.Lock()
	defer originals.mu.Unlock()
	if originals.one[driver] == nil {
		originals.one[driver] = &original{}
	}
	return originals.one[driver]
}

// Clear removes what was copied from. VerifyMain calls it after the tests.
func Clear() error {
	originals.mu.Lock()
	defer originals.mu.Unlock()
	var errs []error
	for driver, o := range originals.one {
		if o.kept != nil {
			errs = append(errs, o.kept.Drop())
		}
		delete(originals.one, driver)
	}
	return errors.Join(errs...)
}

func (o *original) make(t testing.TB, driver string) error {
	t.Helper()
	if driver == store.SQLite {
		d := testkit.NewDatabase(t, driver)
		if err := migrate(d); err != nil {
			return err
		}
		file, err := os.ReadFile(d.DSN)
		o.file = file
		return err
	}
	kept, err := testkit.KeptDatabase(t, driver)
	if err != nil {
		return err
	}
	o.kept = &kept
	if err := migrate(kept.Database); err != nil || driver == store.Postgres {
		return err
	}
	o.copy, err = statements(kept.DSN)
	return err
}

// migrate makes all tables, and leaves no connection. It outlives the test that asked first.
func migrate(d testkit.Database) (err error) {
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = d.Driver, d.DSN
	db, err := store.Open(context.Background(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = schema.Of(db).Migrate(context.Background())
	return err
}

func (o *original) fill(ctx context.Context, d testkit.Database) error {
	if d.Driver == store.SQLite {
		return os.WriteFile(filepath.Clean(d.DSN), o.file, 0o600)
	}
	address, err := mysql.ParseDSN(d.DSN)
	if err != nil {
		return err
	}
	address.MultiStatements = true
	db, err := sql.Open("mysql", address.FormatDSN())
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, o.copy)
	return err
}

// statements make the tables of a mysql database, with their few rows.
func statements(dsn string) (string, error) {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return "", err
	}
	defer db.Close()
	const list = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
	rows, err := db.Query(list)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	all := []string{"SET foreign_key_checks = 0"}
	for rows.Next() {
		var schema, table, create string
		if err := rows.Scan(&schema, &table); err != nil {
			return "", err
		}
		if err := db.QueryRow("SHOW CREATE TABLE `"+table+"`").Scan(&table, &create); err != nil {
			return "", err
		}
		all = append(all, create, fmt.Sprintf("INSERT INTO `%s` SELECT * FROM `%s`.`%s`", table, schema, table))
	}
	return strings.Join(all, ";\n"), rows.Err()
}

// Open opens a database as the product does, with its tables; it is closed when the test ends.
func Open(t testing.TB, d testkit.Database) *store.DB {
	t.Helper()
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = d.Driver, d.DSN
	db, err := store.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("open %s: %v", d.Driver, err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close %s: %v", d.Driver, err)
		}
	})
	if _, err := schema.Of(db).Migrate(t.Context()); err != nil {
		t.Fatalf("migrate %s: %v", d.Driver, err)
	}
	return db
}
