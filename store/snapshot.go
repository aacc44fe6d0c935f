package store

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/gorm"
)

// Snapshot runs fn's reads on one consistent state of the database (REPEATABLE READ, read only; on SQLite a WAL snapshot),
// without holding up writers. fn may run as long as ctx allows; it is run once.
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
