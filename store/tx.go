package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"gorm.io/gorm"
)

const (
	txAttempts   = 5
	txBackoff    = 10 * time.Millisecond
	txBackoffMax = 200 * time.Millisecond
)

// Tx runs fn in one transaction (READ COMMITTED; on SQLite holding the write lock from the start) and commits when fn returns
// nil. A transaction the database rolled back in favour of another is run again from the start, at most 5 times, so fn must
// change nothing outside tx that a second run would not overwrite. Each run is bounded by
// database.tx_timeout.
//
// An error from fn is returned as it is. Ask Unavailable and Duplicate about it. A connection lost during commit leaves the
// outcome unknown: fn must be safe to repeat.
func (db *DB) Tx(ctx context.Context, fn func(tx *gorm.DB) error) error {
	for attempt := 1; ; attempt++ {
		err := db.once(ctx, fn)
		if err == nil || judge(err) != tryAgain {
			return err
		}
		if attempt == txAttempts {
			return fmt.Errorf("transaction rolled back by the database %d times in a row: %w", attempt, err)
		}
		if pause(ctx, attempt) != nil {
			return err
		}
	}
}

func (db *DB) once(ctx context.Context, fn func(tx *gorm.DB) error) error {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.TxTimeout)
	defer cancel()
	return db.Write.WithContext(ctx).Transaction(fn)
}

// pause waits a doubling, fully jittered time, so that transactions that met once do not meet again.
func pause(ctx context.Context, attempt int) error {
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
