package store

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	modernc "modernc.org/sqlite"
)

// SQLite's extended result codes for what a row did wrong.
const (
	sqliteCheck      = 275
	sqliteForeignKey = 787
	sqlitePrimaryKey = 1555
	sqliteUnique     = 2067
)

// openSQLite opens a pool with one writer, so that writers queue in this process instead of failing with SQLITE_BUSY. A
// second pool has readers, which do not wait for the writer (WAL). synchronous is FULL, because the file is the only
// durable copy of a sold unit. Order ids are random, so a large batch changes pages all over its indexes. 64 MiB of
// cache keep these from being written before the commit. Undo data stays in memory, and checkpoints come each 40 MB of
// log instead of each 4.
func openSQLite(cfg Config) (opened, error) {
	if err := createParent(cfg.DSN); err != nil {
		return opened{}, err
	}
	write, err := sql.Open("sqlite", sqliteURI(cfg.DSN, "immediate", "journal_mode(WAL)", "synchronous(FULL)",
		"foreign_keys(1)", "cache_size(-65536)", "temp_store(MEMORY)", "wal_autocheckpoint(10000)"))
	if err != nil {
		return opened{}, err
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", sqliteURI(cfg.DSN, "deferred", "query_only(1)"))
	if err != nil {
		return opened{}, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(cfg.MaxConns)
	read.SetMaxIdleConns(cfg.MaxConns)
	return opened{
		pools:      []*sql.DB{write, read},
		dialectors: []gorm.Dialector{sqliteDialector(write), sqliteDialector(read)},
	}, nil
}

// sqliteURI turns a path or a file: URI into the driver's DSN. Parameters of the URI stay.
func sqliteURI(dsn, txlock string, pragmas ...string) string {
	var base, query string
	if strings.HasPrefix(dsn, "file:") {
		base, query, _ = strings.Cut(dsn, "?")
	} else {
		base = "file:" + (&url.URL{Path: dsn}).EscapedPath()
	}
	params := url.Values{"_txlock": {txlock}}
	// busy_timeout comes first, because switching to WAL may have to wait for another process.
	for _, pragma := range append([]string{"busy_timeout(5000)"}, pragmas...) {
		params.Add("_pragma", pragma)
	}
	if query != "" {
		query += "&"
	}
	return base + "?" + query + params.Encode()
}

func createParent(dsn string) error {
	path, _, _ := strings.Cut(strings.TrimPrefix(dsn, "file:"), "?")
	if !strings.HasPrefix(dsn, "file:") {
		path = dsn
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("create the folder of database.dsn: %w", err)
	}
	return nil
}

// sqliteTranslator replaces the error translation of gorm's dialector, which supports only the cgo driver.
type sqliteTranslator struct{ *sqlite.Dialector }

func sqliteDialector(pool *sql.DB) gorm.Dialector {
	return sqliteTranslator{&sqlite.Dialector{DriverName: "sqlite", Conn: pool}}
}

// Translate adds gorm's sentinel to a constraint error and keeps the driver's error in the chain.
func (sqliteTranslator) Translate(err error) error {
	var e *modernc.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlitePrimaryKey, sqliteUnique:
		return fmt.Errorf("%w: %w", gorm.ErrDuplicatedKey, err)
	case sqliteForeignKey:
		return fmt.Errorf("%w: %w", gorm.ErrForeignKeyViolated, err)
	case sqliteCheck:
		return fmt.Errorf("%w: %w", gorm.ErrCheckConstraintViolated, err)
	}
	return err
}
