package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// The drivers Config.Driver accepts.
const (
	SQLite   = "sqlite"
	MySQL    = "mysql"
	Postgres = "postgres"
)

// Config says which database to open, and bounds its use.
type Config struct {
	// Driver is sqlite, mysql (MariaDB 10.6 or MySQL 8 and newer) or postgres. Defaults to sqlite.
	Driver string `koanf:"driver"`
	// DSN is a file path for sqlite, user:password@tcp(host:port)/name for mysql and a postgres:// URL for postgres. It
	// may contain a password: never print it. Defaults to ./data/sluice.db.
	DSN string `koanf:"dsn"`
	// CAFile holds PEM certificates to trust. With it every connection is encrypted and the server's name checked,
	// whatever the DSN says. Without it the DSN decides on TLS. Not for sqlite.
	CAFile string `koanf:"ca_file"`
	// MaxConns bounds the open connections of this process. On SQLite there is one more, the writer. Defaults to 16.
	MaxConns int `koanf:"max_conns"`
	// TxTimeout bounds one attempt of a transaction, its waits for locks included. Defaults to 10s.
	TxTimeout time.Duration `koanf:"tx_timeout"`
	// Pooler says whether a connection pooler in transaction mode, such as PgBouncer, is in front of PostgreSQL. It is
	// auto, none or transaction; auto recognises PgBouncer at start. Other drivers ignore it. Defaults to auto.
	Pooler string `koanf:"pooler"`
	// Migrate applies pending migrations when a process starts. Without it such a process refuses to start until an
	// operator runs `sluice migrate up`. Defaults to true.
	Migrate bool `koanf:"migrate"`
}

// DefaultConfig returns the configuration of an SQLite file under ./data.
func DefaultConfig() Config {
	return Config{Driver: SQLite, DSN: "./data/sluice.db", MaxConns: 16, TxTimeout: 10 * time.Second,
		Pooler: PoolerAuto, Migrate: true}
}

// Validate returns every bad value, each named by its configuration key. The DSN itself is never part of the text.
func (c Config) Validate() error {
	return errors.Join(c.validateDSN(), c.validateTLS(), c.validateBounds())
}

func (c Config) validateBounds() error {
	var errs []error
	if c.MaxConns < 1 || c.MaxConns > 1000 {
		errs = append(errs, fmt.Errorf("database.max_conns: %d is out of range, use 1 to 1000", c.MaxConns))
	}
	if c.TxTimeout < 100*time.Millisecond || c.TxTimeout > 5*time.Minute {
		errs = append(errs, fmt.Errorf("database.tx_timeout: %s is out of range, use 100ms to 5m", c.TxTimeout))
	}
	if !slices.Contains([]string{PoolerAuto, PoolerNone, PoolerTransaction}, c.Pooler) {
		errs = append(errs, fmt.Errorf("database.pooler: %q is unknown, use auto, none or transaction", c.Pooler))
	}
	if c.Pooler == PoolerTransaction && c.Driver != Postgres {
		errs = append(errs, fmt.Errorf("database.pooler: transaction is for postgres, with database.driver %s use "+
			"auto or none", c.Driver))
	}
	return errors.Join(errs...)
}

func (c Config) validateDSN() error {
	if strings.TrimSpace(c.DSN) == "" && (c.Driver == SQLite || c.Driver == MySQL || c.Driver == Postgres) {
		return errors.New("database.dsn: is empty, give a file path (sqlite), user:password@tcp(host:port)/name " +
			"(mysql) or a postgres:// URL")
	}
	switch c.Driver {
	case SQLite:
		if strings.Contains(c.DSN, ":memory:") || strings.Contains(c.DSN, "mode=memory") {
			return errors.New("database.dsn: an in-memory SQLite database is not one database for several " +
				"connections, use a file path")
		}
	case MySQL:
		// The parser's text is left out, because it may repeat parts of the DSN with the password.
		if cfg, err := mysql.ParseDSN(c.DSN); err != nil || cfg.DBName == "" {
			return errors.New("database.dsn: is not a MySQL DSN, use user:password@tcp(host:port)/name")
		}
	case Postgres:
		if _, err := pgx.ParseConfig(c.DSN); err != nil {
			return errors.New("database.dsn: is not a PostgreSQL URL, use " +
				"postgres://user:password@host:port/name?sslmode=…")
		}
	default:
		return fmt.Errorf("database.driver: %q is unknown, use sqlite, mysql or postgres", c.Driver)
	}
	return nil
}

func (c Config) validateTLS() error {
	if c.CAFile != "" && c.Driver == SQLite {
		return errors.New("database.ca_file: is for mysql and postgres, an SQLite file is not reached by network")
	}
	return nil
}

// encryption returns a TLS configuration that trusts only the certificates of CAFile, for a server at addr (host or
// host:port).
func (c Config) encryption(addr string) (*tls.Config, error) {
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("database.ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("database.ca_file: %s holds no PEM certificate", c.CAFile)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: host}, nil
}
