package lab

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"sluice/internal/testkit/servers"
	"sluice/loadtest/bench/machine"
)

// Database is an empty database for one round.
type Database struct {
	Driver string // as in database.driver
	DSN    string // as in database.dsn
	server *servers.Server
	drop   func() error
}

// label returns the name of the database's process in the table.
func (d Database) label() string {
	return map[string]string{"mysql": "mariadb", "postgres": "postgres", "sqlite": "sqlite"}[d.Driver]
}

// sql opens the database.
func (d Database) sql() (*sql.DB, error) { return openSQL(d.Driver, d.DSN) }

func openSQL(driver, dsn string) (*sql.DB, error) {
	switch driver {
	case "postgres":
		driver = "pgx"
	case "sqlite":
		dsn = "file:" + dsn + "?_pragma=busy_timeout(5000)"
	}
	return sql.Open(driver, dsn)
}

// database creates an empty database. The servers are started once. Their commits are on disk when they are answered,
// as in a shop.
func (l *Lab) database(ctx context.Context, driver string) (Database, error) {
	l.made++
	name := fmt.Sprintf("bench_%d", l.made)
	if driver == "sqlite" {
		dir, err := l.folder("sqlite")
		return Database{Driver: driver, DSN: filepath.Join(dir, "sluice.db"), drop: func() error { return nil }}, err
	}
	server, err := l.server(ctx, driver)
	if err != nil {
		return Database{}, err
	}
	admin, dsn := servers.MySQLDSN(server, ""), servers.MySQLDSN(server, name)
	if driver == "postgres" {
		admin, dsn = servers.PostgresDSN(server, "postgres"), servers.PostgresDSN(server, name)
	}
	if err := execute(ctx, driver, admin, "CREATE DATABASE "+name); err != nil {
		return Database{}, err
	}
	return Database{Driver: driver, DSN: dsn, server: server, drop: func() error {
		return execute(context.WithoutCancel(ctx), driver, admin, "DROP DATABASE "+name)
	}}, nil
}

func execute(ctx context.Context, driver, dsn, statement string) error {
	db, err := openSQL(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s: %s: %w", driver, statement, err)
	}
	return nil
}

func (l *Lab) server(ctx context.Context, driver string) (*servers.Server, error) {
	if s := l.servers[driver]; s != nil {
		return s, nil
	}
	start := func() (*servers.Server, error) {
		return servers.MySQLWith(ctx, "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=2G",
			"--innodb-log-file-size=1G")
	}
	if driver == "postgres" {
		start = func() (*servers.Server, error) {
			return servers.PostgresWith(ctx, "-c", "fsync=on", "-c", "full_page_writes=on", "-c",
				"shared_buffers=256MB", "-c", "max_wal_size=4GB")
		}
	}
	s, err := start()
	if err != nil {
		return nil, err
	}
	l.servers[driver] = s
	return s, nil
}

const (
	calmLook     = 200 * time.Millisecond
	calmShare    = 0.05 // of one core
	calmPatience = 15 * time.Second
)

// Calm waits, for a bounded time, until the database servers are idle. So one measurement does not slow the next.
func (l *Lab) Calm(ctx context.Context) {
	pids := map[string][]int{}
	for driver, s := range l.servers {
		pids[driver] = []int{s.PID()}
	}
	for deadline := time.Now().Add(calmPatience); len(pids) > 0 && time.Now().Before(deadline); {
		clock := machine.StartCPU(pids)
		select {
		case <-ctx.Done():
			return
		case <-time.After(calmLook):
		}
		if machine.Sum(clock.Used()).Seconds() <= calmShare*calmLook.Seconds() {
			return
		}
	}
}

// Versions returns the versions of the stores that were used.
func (l *Lab) Versions(ctx context.Context) map[string]string {
	found := map[string]string{}
	for driver, s := range l.servers {
		dsn, name, question := servers.MySQLDSN(s, ""), "MariaDB", "SELECT VERSION()"
		if driver == "postgres" {
			dsn, name, question = servers.PostgresDSN(s, "postgres"), "PostgreSQL", "SHOW server_version"
		}
		var text string
		if db, err := openSQL(driver, dsn); err == nil {
			if db.QueryRowContext(ctx, question).Scan(&text) == nil {
				found[name], _, _ = strings.Cut(text, " ")
			}
			_ = db.Close()
		}
	}
	return found
}
