package store

import (
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

const (
	sqliteParams  = 32766
	networkParams = 65535
	// maxRows keeps one statement's text and the time it holds locks small whatever the row's width.
	maxRows = 500
)

// InsertIgnore makes the next Create skip every row that conflicts with a row already there on any unique key; other errors
// still fail the whole statement. RowsAffected is the number of rows inserted. gorm does not tell which rows those are, so
// rows need keys of their own (never auto-increment) and a batch column to be read back by. Create needs a model.
func InsertIgnore(tx *gorm.DB) *gorm.DB {
	return tx.Clauses(clause.OnConflict{DoNothing: true})
}

// ForUpdate makes the next query lock the rows it reads until the transaction ends. On SQLite the transaction already holds
// the only write lock, so it adds nothing there.
func ForUpdate(tx *gorm.DB) *gorm.DB {
	return tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate})
}

// MaxRows is how many rows of so many columns one INSERT may carry: at least 1, at most 500, within the dialect's bound on
// parameters.
func (db *DB) MaxRows(columns int) int {
	params := networkParams
	if db.Driver == SQLite {
		params = sqliteParams
	}
	return max(1, min(maxRows, params/max(1, columns)))
}
