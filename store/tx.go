package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

const (
	txAttempts   = 5
	txBackoff    = 10 * time.Millisecond
	txBackoffMax = 200 * time.Millisecond
)

// Tx runs fn in one transaction (READ COMMITTED; on SQLite holding the write lock from the start) and commits when fn
// returns nil. A transaction the database rolled back in favour of another is run again from the start, at most 5
// times, so fn must change nothing outside tx that a second run would not overwrite. Each run is bounded by
// database.tx_timeout.
//
// An error from fn is returned as it is. Ask Unavailable and Duplicate about it. A connection lost during commit leaves
// the outcome unknown: fn must be safe to repeat.
func (db *DB) Tx(ctx context.Context, fn func(tx *gorm.DB) error) error {
	for attempt := 1; ; attempt++ {
		err := db.once(ctx, fn)
		if err == nil || judge(err) != tryAgain {
			return err
		}
		if attempt == txAttempts {
			return fmt.Errorf("transaction rolled back by the database %d times in a row: %w", attempt, err)
		}
		if Pause(ctx, attempt) != nil {
			return err
		}
	}
}

func (db *DB) once(ctx context.Context, fn func(tx *gorm.DB) error) error {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.TxTimeout)
	defer cancel()
	return db.Write.WithContext(ctx).Transaction(fn)
}

// Pause waits a doubling, fully jittered time, so that transactions that met once do not meet again.
func Pause(ctx context.Context, attempt int) error {
	ceiling := min(txBackoff<<attempt, txBackoffMax)
	timer := time.NewTimer(rand.N(ceiling) + time.Millisecond) // #nosec G404 -- jitter
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Snapshot runs fn's reads on one consistent state of the database (REPEATABLE READ, read only; on SQLite a WAL
// snapshot), without holding up writers. fn may run as long as ctx allows; it is run once.
func (db *DB) Snapshot(ctx context.Context, fn func(tx *gorm.DB) error) error {
	options := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	if db.Driver == SQLite {
		options = nil
	}
	err := db.Read.WithContext(ctx).Transaction(fn, options)
	if err != nil {
		return fmt.Errorf("read a snapshot of the database: %w", err)
	}
	return nil
}

const (
	sqliteParams  = 32766
	networkParams = 65535
	// maxRows keeps one statement's text and the time it holds locks small whatever the row's width.
	maxRows = 500
)

// InsertIgnore makes the next Create skip every row that conflicts with a row already there on any unique key; other
// errors still fail the whole statement. RowsAffected is the number of rows inserted. gorm does not tell which rows
// those are, so rows need keys of their own (never auto-increment) and a batch column to be read back by. Create needs
// a model.
func InsertIgnore(tx *gorm.DB) *gorm.DB {
	return tx.Clauses(clause.OnConflict{DoNothing: true})
}

// ForUpdate makes the next query lock the rows it reads until the transaction ends. On SQLite the transaction already
// holds the only write lock, so it adds nothing there.
func ForUpdate(tx *gorm.DB) *gorm.DB {
	return tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate})
}

// MaxRows is how many rows of so many columns one INSERT may carry: at least 1, at most 500, within the dialect's bound
// on parameters.
func (db *DB) MaxRows(columns int) int {
	params := networkParams
	if db.Driver == SQLite {
		params = sqliteParams
	}
	return max(1, min(maxRows, params/max(1, columns)))
}
