package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"sluice/internal/testkit"
	"sluice/internal/testkit/servers"
)

// setting is something that an administrator, or an accident, does to a
// running database server so that it refuses to work for the shop's account.
type setting struct {
	name   string
	total  bool // nothing can be written meanwhile
	strike func(ctx context.Context, a *admin, meanwhile func()) error
}

// admin is the administrator's way into the server of a database.
type admin struct {
	driver   string
	database string // its name
	dsn      string // of the shop's account
	sql      *sql.DB
	server   *servers.Server
}

// stormEvery is how often a storm ends what the shop's account is doing.
const stormEvery = 15 * time.Millisecond

// settingsOf returns the settings of a driver's server.
func settingsOf(driver string) []setting {
	if driver == "postgres" {
		return postgresSettings()
	}
	return mysqlSettings()
}

// mysqlSettings returns the settings of MariaDB. Sessions that begin meanwhile keep the values of most of them.
func mysqlSettings() []setting {
	return []setting{
		changed("binlog_format=STATEMENT", "SET GLOBAL binlog_format='STATEMENT'", "SET GLOBAL binlog_format='MIXED'"),
		changed("read_only", "SET GLOBAL read_only=1", "SET GLOBAL read_only=0"),
		changed("tx_read_only", "SET GLOBAL tx_read_only=1", "SET GLOBAL tx_read_only=0"),
		changed("max_allowed_packet", "SET GLOBAL max_allowed_packet=1024",
			"SET GLOBAL max_allowed_packet=16777216").partly(),
		changed("max_statement_time", "SET GLOBAL max_statement_time=0.000001",
			"SET GLOBAL max_statement_time=0").partly(),
		changed("max_user_connections", "ALTER USER shop WITH MAX_USER_CONNECTIONS 1",
			"ALTER USER shop WITH MAX_USER_CONNECTIONS 0").partly(),
		changed("account locked", "ALTER USER shop ACCOUNT LOCK", "ALTER USER shop ACCOUNT UNLOCK"),
		changed("password", "ALTER USER shop IDENTIFIED BY 'another'", "ALTER USER shop IDENTIFIED BY ''"),
		changed("insert revoked", "REVOKE INSERT ON %s.* FROM shop", "GRANT INSERT ON %s.* TO shop"),
		{name: "max_connections", strike: crowdOut},
		{name: "innodb_read_only", total: true, strike: func(ctx context.Context, a *admin, meanwhile func()) error {
			return a.restarted(ctx, meanwhile, "--innodb-read-only=1")
		}},
		storm("kill storm", "KILL HARD CONNECTION USER shop"),
	}
}

func postgresSettings() []setting {
	const reload = "; SELECT pg_reload_conf()"
	const own = "(pid) FROM pg_stat_activity WHERE usename = 'shop'"
	return []setting{
		changed("default_transaction_read_only", "ALTER SYSTEM SET default_transaction_read_only=on"+reload,
			"ALTER SYSTEM RESET default_transaction_read_only"+reload),
		changed("idle_session_timeout", "ALTER ROLE shop SET idle_session_timeout=1",
			"ALTER ROLE shop RESET idle_session_timeout").partly(),
		changed("connection limit of the role", "ALTER ROLE shop CONNECTION LIMIT 0",
			"ALTER ROLE shop CONNECTION LIMIT -1"),
		changed("connections to the database", "ALTER DATABASE %s ALLOW_CONNECTIONS false",
			"ALTER DATABASE %s ALLOW_CONNECTIONS true"),
		changed("nologin", "ALTER ROLE shop NOLOGIN", "ALTER ROLE shop LOGIN"),
		// The processes ask for a longer one, which wins over that of the role: what a statement that is
		// cancelled does is seen in the cancel storm.
		changed("statement_timeout", "ALTER ROLE shop SET statement_timeout='1ms'",
			"ALTER ROLE shop RESET statement_timeout").partly(),
		storm("cancel storm", "SELECT pg_cancel_backend"+own),
		storm("terminate storm", "SELECT pg_terminate_backend"+own),
	}
}

// changed returns a setting that statements change and restore, divided by semicolons; %s in them is the database.
// Sessions are ended behind the making only: those that begin meanwhile are still there when all is well again.
func changed(name, spoil, mend string) setting {
	return setting{name: name, total: true, strike: func(ctx context.Context, a *admin, meanwhile func()) error {
		if err := errors.Join(a.run(ctx, spoil), a.drop(ctx)); err != nil {
			return errors.Join(err, a.run(context.WithoutCancel(ctx), mend))
		}
		meanwhile()
		return a.run(context.WithoutCancel(ctx), mend)
	}}
}

// partly says that some statements go through all the same.
func (s setting) partly() setting {
	s.total = false
	return s
}

// storm repeats a statement, whose failures do not matter.
func storm(name, statement string) setting {
	return setting{name: name, strike: func(ctx context.Context, a *admin, meanwhile func()) error {
		over := make(chan struct{})
		go func() { defer close(over); meanwhile() }()
		for !closed(over) {
			_ = a.run(ctx, statement)
			_ = pause(ctx, stormEvery)
		}
		return nil
	}}
}

// crowdOut leaves at most one connection of a few to the processes.
func crowdOut(ctx context.Context, a *admin, meanwhile func()) error {
	const fewest = 10 // that MariaDB allows
	if err := errors.Join(a.run(ctx, "SET GLOBAL max_connections=10"), a.drop(ctx)); err != nil {
		return err
	}
	db, err := sql.Open(sqlDriver(a.driver), a.dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	taking, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for taken := 0; taken < fewest-1 && taking.Err() == nil; {
		if conn, err := db.Conn(taking); err == nil {
			defer conn.Close()
			taken++
		}
	}
	meanwhile()
	return a.run(context.WithoutCancel(ctx), "SET GLOBAL max_connections=400")
}

// restarted returns a server that runs with further arguments for a while.
func (a *admin) restarted(ctx context.Context, meanwhile func(), arguments ...string) error {
	a.server.Kill()
	if err := a.server.Start(ctx); err != nil { // recovers, which it cannot do when it may write nothing
		return err
	}
	if err := errors.Join(a.server.Stop(), a.server.StartWith(ctx, arguments...)); err != nil {
		return err
	}
	meanwhile()
	return errors.Join(a.server.Stop(), a.server.Start(context.WithoutCancel(ctx)))
}

// spoilSettings makes one setting and unmakes it.
func (b *breaker) spoilSettings(ctx context.Context, f fault) error {
	s := b.cluster.stores
	for _, one := range settingsOf(s.database.Driver) {
		if one.name == f.what {
			a, err := newAdmin(s.database, s.server)
			if err != nil {
				return err
			}
			return errors.Join(one.strike(ctx, a, func() { _ = pause(ctx, f.hold) }), a.sql.Close())
		}
	}
	return fmt.Errorf("no setting %s of %s is known here", f.what, s.database.Driver)
}

// newAdmin opens the way into a server for the administrator of the database d there.
func newAdmin(d testkit.Database, server *servers.Server) (*admin, error) {
	db, err := sql.Open(sqlDriver(d.Driver), adminDSN(d.Driver, server))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // the one that an administrator has in reserve
	return &admin{driver: d.Driver, database: databaseName(d), dsn: d.DSN, sql: db, server: server}, nil
}

// adminDSN returns the address of a server for its administrator.
func adminDSN(driver string, server *servers.Server) string {
	if driver == "postgres" {
		return servers.PostgresDSN(server, "postgres")
	}
	return servers.MySQLDSN(server, "")
}

// run executes statements one by one.
func (a *admin) run(ctx context.Context, statements string) error {
	for statement := range strings.SplitSeq(strings.ReplaceAll(statements, "%s", a.database), ";") {
		if _, err := a.sql.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(statement), err)
		}
	}
	return nil
}

// drop ends every session of the shop's account.
func (a *admin) drop(ctx context.Context) error {
	if a.driver == "postgres" {
		return a.run(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'")
	}
	return a.run(ctx, "KILL HARD CONNECTION USER shop")
}

// sqlDriver returns the name of a driver in database/sql.
func sqlDriver(name string) string {
	if name == "postgres" {
		return "pgx"
	}
	return name
}

// databaseName returns the last part of a database's address.
func databaseName(d testkit.Database) string {
	if d.Driver == "mysql" {
		if config, err := mysql.ParseDSN(d.DSN); err == nil {
			return config.DBName
		}
		return ""
	}
	address, err := url.Parse(d.DSN)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(address.Path, "/")
}

// withUser returns a PostgreSQL address for another account.
func withUser(dsn, account string) (string, error) {
	address, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	address.User = url.User(account)
	return address.String(), nil
}
