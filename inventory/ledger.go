package inventory

import (
	"fmt"

	"gorm.io/gorm"
)

// Take removes units from a sale's ledger inside the caller's transaction. It
// returns ErrShort, and has changed nothing, when fewer are available. The row
// stays locked until the transaction ends, so callers take it last.
func Take(tx *gorm.DB, sale string, units int64) error {
	done := tx.Exec("UPDATE stock SET available = available - ? WHERE sale_id = ? AND available >= ?", units, sale, units)
	if done.Error != nil {
		return fmt.Errorf("take %d units of %s from the ledger: %w", units, sale, done.Error)
	}
	if done.RowsAffected != 1 {
		return fmt.Errorf("take %d units of %s: %w", units, sale, ErrShort)
	}
	return nil
}

// Return gives units back to a sale's ledger inside the caller's transaction.
func Return(tx *gorm.DB, sale string, units int64) error {
	done := tx.Exec("UPDATE stock SET available = available + ? WHERE sale_id = ?", units, sale)
	if done.Error != nil {
		return fmt.Errorf("return %d units of %s to the ledger: %w", units, sale, done.Error)
	}
	if done.RowsAffected != 1 {
		return fmt.Errorf("return %d units of %s: %w", units, sale, ErrNoSale)
	}
	return nil
}
