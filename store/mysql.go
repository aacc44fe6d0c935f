package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	driverpkg "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
)

// MySQL's and MariaDB's error numbers for what a row did wrong.
const (
	mysqlDuplicate       = 1062
	mysqlDuplicateNamed  = 1586
	mysqlForeignKeyOwner = 1451
	mysqlForeignKey      = 1452
	mysqlCheck           = 3819
	mariaCheck           = 4025
)

// lockWait is how long a statement waits for another transaction's row lock before it gives up.
const lockWait = 5 * time.Second

func openMySQL(cfg Config) (opened, error) {
	pool, err := mysqlPool(cfg, false)
	if err != nil {
		return opened{}, err
	}
	limit(pool, cfg.MaxConns)
	dialector := mysqlTranslator{&mysql.Dialector{Config: &mysql.Config{Conn: pool}}}
	return opened{pools: []*sql.DB{pool}, dialectors: []gorm.Dialector{dialector}}, nil
}

// mysqlPool returns a pool that connects at its first use. A pool for migrations has no read timeout, because changing
// a big table may take long.
func mysqlPool(cfg Config, migrations bool) (*sql.DB, error) {
	dsn, err := driverpkg.ParseDSN(cfg.DSN)
	if err != nil {
		return nil, errors.New("database.dsn: is not a MySQL DSN, use user:password@tcp(host:port)/name")
	}
	// Other values in the DSN would change the meaning of RowsAffected or of stored times.
	dsn.ClientFoundRows = false
	dsn.ParseTime, dsn.Loc = true, time.UTC
	// One round trip a statement instead of prepare, execute, close.
	dsn.InterpolateParams = true
	dsn.MultiStatements = false
	// The driver's logger would repeat on stderr what the returned error says.
	dsn.Logger = &driverpkg.NopLogger{}
	if err := dsn.Apply(driverpkg.Charset("utf8mb4", "")); err != nil {
		return nil, err
	}
	if cfg.CAFile != "" {
		if dsn.TLS, err = cfg.encryption(dsn.Addr); err != nil {
			return nil, err
		}
	}
	mysqlTimeouts(dsn, cfg.TxTimeout, migrations)
	dsn.Params = mysqlSession(dsn.Params)
	connector, err := driverpkg.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return newSessions(time.Now).openMySQL(readCommitted{connector}), nil
}

func mysqlTimeouts(dsn *driverpkg.Config, tx time.Duration, migrations bool) {
	if dsn.Timeout == 0 {
		dsn.Timeout = 5 * time.Second
	}
	if dsn.ReadTimeout == 0 {
		dsn.ReadTimeout = tx + lockWait
	}
	if dsn.WriteTimeout == 0 {
		dsn.WriteTimeout = tx
	}
	if migrations {
		dsn.ReadTimeout = 0
	}
}

// mysqlSession adds the variables that each session starts with. The DSN cannot turn off strict mode: without it, data
// that does not fit is cut silently.
func mysqlSession(given map[string]string) map[string]string {
	params := map[string]string{"innodb_lock_wait_timeout": strconv.Itoa(int(lockWait.Seconds()))}
	maps.Copy(params, given)
	params["sql_mode"] = "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"
	params["time_zone"] = "'+00:00'"
	return params
}

// readCommitted is a connector that sets the isolation of each new session. A DSN parameter cannot: the variable's name
// differs between MySQL 8 and MariaDB. Under the default, REPEATABLE READ, gap locks make batch inserts deadlock each
// other.
type readCommitted struct{ driver.Connector }

func (c readCommitted) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	execer, ok := conn.(driver.ExecerContext)
	if !ok {
		return nil, errors.Join(fmt.Errorf("mysql driver connection %T cannot execute", conn), conn.Close())
	}
	if _, err := execer.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// mysqlTranslator also translates CHECK violations, which gorm's dialector does not.
type mysqlTranslator struct{ *mysql.Dialector }

// Translate adds gorm's sentinel to a constraint error and keeps the driver's error in the chain.
func (mysqlTranslator) Translate(err error) error {
	var e *driverpkg.MySQLError
	if !errors.As(err, &e) {
		return err
	}
	switch e.Number {
	case mysqlDuplicate, mysqlDuplicateNamed:
		return fmt.Errorf("%w: %w", gorm.ErrDuplicatedKey, err)
	case mysqlForeignKeyOwner, mysqlForeignKey:
		return fmt.Errorf("%w: %w", gorm.ErrForeignKeyViolated, err)
	case mysqlCheck, mariaCheck:
		return fmt.Errorf("%w: %w", gorm.ErrCheckConstraintViolated, err)
	}
	return err
}
