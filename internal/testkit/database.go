package testkit

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"sluice/internal/testkit/servers"
)

// Database is a fresh, empty database.
type Database struct {
	Driver string // "sqlite", "mysql" or "postgres"
	DSN    string // a file's path, a go-sql-driver address, or a URL
}

// dropPatience bounds the removal of a database after its test.
const dropPatience = 30 * time.Second

// Databases returns an empty database of every driver; each is removed when
// the test ends.
func Databases(t testing.TB) []Database {
	t.Helper()
	var all []Database
	for _, driver := range []string{"sqlite", "mysql", "postgres"} {
		all = append(all, NewDatabase(t, driver))
	}
	return all
}

// NewDatabase returns an empty database of one driver. That of sqlite is the path of a file that
// does not exist yet. Those of mysql and postgres are made on the server at SLUICE_TEST_MYSQL_DSN
// or SLUICE_TEST_POSTGRES_DSN. Without it, they are made on a server that the test process starts
// once and shares.
func NewDatabase(t testing.TB, driver string) Database {
	t.Helper()
	switch driver {
	case "sqlite":
		return Database{Driver: driver, DSN: filepath.Join(t.TempDir(), "sluice.db")}
	case "mysql", "postgres":
		return create(t, sharedDSN(t, driver))
	default:
		t.Fatalf("no database driver %q: there are sqlite, mysql and postgres", driver)
		return Database{}
	}
}

// NewDatabaseOn returns an empty database on the server that admin addresses;
// it is removed when the test ends.
func NewDatabaseOn(t testing.TB, admin Database) Database {
	t.Helper()
	return create(t, admin)
}

// create makes a database beside the one that admin addresses; it is removed when the test ends.
func create(t testing.TB, admin Database) Database {
	t.Helper()
	return createLike(t, admin, "")
}

func createLike(t testing.TB, admin Database, like string) Database {
	t.Helper()
	made, err := createOn(t.Context(), admin, like)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := made.Drop(); err != nil {
			t.Error(err)
		}
	})
	return made.Database
}

// Kept is a database that outlives the test that asked for it. Whoever asked drops it.
type Kept struct {
	Database
	admin Database
	name  string
}

// KeptDatabase returns an empty database on the server that NewDatabase uses: of mysql or postgres.
func KeptDatabase(t testing.TB, driver string) (Kept, error) {
	t.Helper()
	return createOn(context.WithoutCancel(t.Context()), sharedDSN(t, driver), "")
}

// Copy returns a database of postgres that begins as k is, and goes when the test ends. Nobody may be connected to k.
func (k Kept) Copy(t testing.TB) Database {
	t.Helper()
	return createLike(t, k.admin, " TEMPLATE "+k.name)
}

// createOn makes a database with a random name beside the one that admin addresses.
func createOn(ctx context.Context, admin Database, like string) (Kept, error) {
	name := "sluice_" + strings.ToLower(rand.Text()[:16])
	if err := execute(ctx, admin, "CREATE DATABASE "+name+like); err != nil {
		return Kept{}, err
	}
	dsn, err := addressOf(admin, name)
	return Kept{Database: Database{Driver: admin.Driver, DSN: dsn}, admin: admin, name: name}, err
}

// Drop removes the database, whoever is connected to it.
func (k Kept) Drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), dropPatience)
	defer cancel()
	statement := "DROP DATABASE " + k.name
	if k.Driver == "postgres" {
		statement += " WITH (FORCE)" // or it refuses while a client is connected
	}
	return execute(ctx, k.admin, statement)
}

// addressOf returns the address of another database on the same server.
func addressOf(on Database, name string) (string, error) {
	if on.Driver == "mysql" {
		config, err := mysql.ParseDSN(on.DSN)
		if err != nil {
			return "", fmt.Errorf("address of the mysql server: %w", err)
		}
		config.DBName = name
		return config.FormatDSN(), nil
	}
	address, err := url.Parse(on.DSN)
	if err != nil {
		return "", fmt.Errorf("address of the postgres server: %w", err)
	}
	address.Path = "/" + name
	return address.String(), nil
}

// execute runs one statement over a connection of its own.
func execute(ctx context.Context, on Database, statement string) error {
	var err error
	if on.Driver == "mysql" {
		err = executeMySQL(ctx, on.DSN, statement)
	} else {
		err = executePostgres(ctx, on.DSN, statement)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", on.Driver, statement, err)
	}
	return nil
}

func executeMySQL(ctx context.Context, dsn, statement string) error {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}

func executePostgres(ctx context.Context, dsn, statement string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// DatabaseServer is a database server of one test, to be killed at will.
type DatabaseServer struct {
	handle
	database Database
}

// PrivateMySQL starts a MariaDB of the test's own, which takes some seconds.
func PrivateMySQL(t testing.TB) *DatabaseServer {
	t.Helper()
	return PrivateMySQLWith(t)
}

// PrivateMySQLWith does what PrivateMySQL does, with extra arguments of the server, such as "--log-bin=bin". They win.
func PrivateMySQLWith(t testing.TB, extra ...string) *DatabaseServer {
	t.Helper()
	server, err := servers.MySQLWith(t.Context(), extra...)
	h := own(t, server, err)
	return h.with(Database{Driver: "mysql", DSN: servers.MySQLDSN(server, "")})
}

// PrivatePostgres starts a PostgreSQL of the test's own, which takes some seconds.
func PrivatePostgres(t testing.TB) *DatabaseServer {
	t.Helper()
	server, err := servers.Postgres(t.Context())
	h := own(t, server, err)
	return h.with(Database{Driver: "postgres", DSN: servers.PostgresDSN(server, "postgres")})
}

// with makes the one database of a private server; it goes with the server.
func (h handle) with(admin Database) *DatabaseServer {
	h.t.Helper()
	if err := execute(h.t.Context(), admin, "CREATE DATABASE sluice"); err != nil {
		h.t.Fatal(err)
	}
	dsn, err := addressOf(admin, "sluice")
	if err != nil {
		h.t.Fatal(err)
	}
	return &DatabaseServer{handle: h, database: Database{Driver: admin.Driver, DSN: dsn}}
}

// Database returns the server's one database, which is empty at first.
func (s *DatabaseServer) Database() Database { return s.database }
