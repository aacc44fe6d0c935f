package inventory

import (
	"fmt"

	"gorm.io/gorm"
)

// Take removes units from a sale's ledger inside the caller's transaction, for
// tickets claimed under an epoch of its line. It returns ErrShort when fewer
// are available and ErrStale when the line has been loaded anew since; the
// caller then rolls back. The row stays locked until the transaction ends, so
// callers take it last.
func Take(tx *gorm.DB, sale string, epoch, units int64) error {
	done := tx.Exec("UPDATE stock SET available = available - ? WHERE sale_id = ? AND available >= ?", units, sale, units)
	if done.Error != nil {
		return fmt.Errorf("take %d units of %s from the ledger: %w", units, sale, done.Error)
	}
	if done.RowsAffected != 1 {
		return fmt.Errorf("take %d units of %s: %w", units, sale, ErrShort)
	}
	return current(tx, sale, epoch)
}

// current fails when the line has another epoch. A rebuild raises it while it
// holds the stock row, which the caller holds now: either the rebuild reads
// what the caller commits, or the caller reads the new epoch here. A worker
// whose tickets were lost with Redis thus cannot make orders that the rebuilt
// line does not count.
func current(tx *gorm.DB, sale string, epoch int64) error {
	var now int64
	if err := tx.Table("sales").Where("id = ?", sale).Select("epoch").Scan(&now).Error; err != nil {
		return fmt.Errorf("read the epoch of %s: %w", sale, err)
	}
	if now != epoch {
		return fmt.Errorf("take units of %s under epoch %d of %d: %w", sale, epoch, now, ErrStale)
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
