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

// Tx runs fn in one transaction and commits when fn returns nil. It is READ COMMITTED; on SQLite it has the write lock
// from the start. A transaction that the database rolled back in favour of another is run again, at most 5 times. So fn
// must change nothing outside tx that a second run would not overwrite. Each run is bounded by database.tx_timeout.
//
// An error from fn is returned as it is. Ask Unavailable and Duplicate about it. A connection lost during commit leaves
// the outcome unknown: fn must be safe to repeat.
func (db *DB) Tx(ctx context.Context, fn func(tx *gorm.DB) error) error {
	for attempt := 1; ; attempt++ {
		err := db.once(ctx, fn)
		if err == nil || classify(err) != tryAgain {
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

// Pause waits a random time whose bound doubles with each attempt, so that colliding transactions do not collide again.
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

// Snapshot runs fn's reads on one consistent state of the database, without delaying writers. It is REPEATABLE READ and
// read only; on SQLite a WAL snapshot. fn is run once and may take as long as ctx allows.
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
	// maxRows bounds a statement's text and how long it has locks, whatever the row's width.
	maxRows = 500
)

// InsertIgnore makes the next Create skip every row that conflicts with an existing one on any unique key. Other errors
// still fail the whole statement. RowsAffected is the number of inserted rows. gorm does not say which rows those are.
// So rows need keys of their own (never auto-increment) and a batch column to read them by. Create needs a model.
func InsertIgnore(tx *gorm.DB) *gorm.DB {
	return tx.Clauses(clause.OnConflict{DoNothing: true})
}

// ForUpdate makes the next query lock its rows until the transaction ends. On SQLite it does nothing, because the
// transaction has the only write lock already.
func ForUpdate(tx *gorm.DB) *gorm.DB {
	return tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate})
}

// MaxRows returns how many rows with that many columns one INSERT may have. It is 1 to 500, within the dialect's bound
// on parameters.
func (db *DB) MaxRows(columns int) int {
	params := networkParams
	if db.Driver == SQLite {
		params = sqliteParams
	}
	return max(1, min(maxRows, params/max(1, columns)))
}
