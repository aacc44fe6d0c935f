package store

import (
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// preparedStatements is per connection.
const preparedStatements = 32

func openPostgres(cfg Config) (opened, error) {
	pool, err := postgresPool(cfg, false)
	if err != nil {
		return opened{}, err
	}
	limit(pool, cfg.MaxConns)
	return opened{pools: []*sql.DB{pool}, dialectors: []gorm.Dialector{postgres.New(postgres.Config{Conn: pool})}}, nil
}

// postgresPool returns a pool that connects at its first use. Settings of the DSN have priority. A pool for migrations
// has no statement timeout, because changing a big table may take long.
func postgresPool(cfg Config, migrations bool) (*sql.DB, error) {
	pg, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, errors.New("database.dsn: is not a PostgreSQL URL, use " +
			"postgres://user:password@host:port/name?sslmode=…")
	}
	if cfg.CAFile != "" {
		if err := encryptPostgres(pg, cfg); err != nil {
			return nil, err
		}
	}
	if pg.ConnectTimeout == 0 {
		pg.ConnectTimeout = 5 * time.Second
	}
	statement := cfg.TxTimeout + lockWait
	if migrations {
		statement = 0
	}
	for name, value := range map[string]string{
		"application_name":                    "sluice",
		"timezone":                            "UTC",
		"lock_timeout":                        millis(lockWait),
		"statement_timeout":                   millis(statement),
		"idle_in_transaction_session_timeout": millis(2 * cfg.TxTimeout),
	} {
		if _, given := pg.RuntimeParams[name]; !given {
			pg.RuntimeParams[name] = value
		}
	}
	if cfg.Pooler == PoolerTransaction {
		return sql.OpenDB(behindPooler(pg, statement)), nil
	}
	// The hot inserts have one text for every size and gain most from being prepared. Others have a text for each size,
	// and each uses memory of the server while it is cached. So the cache is small.
	if !strings.Contains(cfg.DSN, "statement_cache_capacity") {
		pg.StatementCacheCapacity = preparedStatements
	}
	return newSessions(time.Now).openPostgres(*pg), nil
}

// encryptPostgres makes every connection use TLS, also those to further hosts of the DSN. It removes the second try
// without TLS of a weaker sslmode.
func encryptPostgres(pg *pgx.ConnConfig, cfg Config) (err error) {
	if pg.TLSConfig, err = cfg.encryption(pg.Host); err != nil {
		return err
	}
	for _, other := range pg.Fallbacks {
		if other.TLSConfig, err = cfg.encryption(other.Host); err != nil {
			return err
		}
	}
	return nil
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
