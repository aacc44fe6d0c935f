package inventory

import (
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"sluice/store"
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

// Taking is what is taken from one sale.
type Taking struct {
	Sale         string
	Epoch, Units int64
}

// TakeEach is Take for several different sales: all of it is taken, or, with the caller's rollback, nothing. An error does
// not say which of them it is about.
func TakeEach(tx *gorm.DB, takings []Taking) error {
	ids := make([]string, len(takings))
	var units strings.Builder
	var amounts []any
	units.WriteString("CASE sale_id")
	for i, t := range takings {
		ids[i] = t.Sale
		units.WriteString(" WHEN ? THEN ?")
		amounts = append(amounts, t.Sale, t.Units)
	}
	units.WriteString(" ELSE 0 END")
	// In an order of their own: an UPDATE locks rows as it finds them, and two with the same sales would end in a deadlock.
	var locked []string
	if err := store.ForUpdate(tx).Table("stock").Where("sale_id IN ?", ids).Order("sale_id").Pluck("sale_id", &locked).Error; err != nil {
		return fmt.Errorf("lock the stock of %d sales: %w", len(ids), err)
	}
	args := append(append(slices.Clone(amounts), ids), amounts...)
	done := tx.Exec("UPDATE stock SET available = available - "+units.String()+" WHERE sale_id IN ? AND available >= "+units.String(), args...) // #nosec G202 -- placeholders
	if done.Error != nil {
		return fmt.Errorf("take units of %d sales from the ledger: %w", len(ids), done.Error)
	}
	if done.RowsAffected != int64(len(ids)) {
		return fmt.Errorf("take units of %d sales, of which %d have them: %w", len(ids), done.RowsAffected, ErrShort)
	}
	return allCurrent(tx, takings, ids)
}

// allCurrent is current for several sales.
func allCurrent(tx *gorm.DB, takings []Taking, ids []string) error {
	var found []struct {
		ID    string
		Epoch int64
	}
	if err := tx.Table("sales").Where("id IN ?", ids).Select("id", "epoch").Scan(&found).Error; err != nil {
		return fmt.Errorf("read the epochs of %d sales: %w", len(ids), err)
	}
	epochs := make(map[string]int64, len(found))
	for _, s := range found {
		epochs[s.ID] = s.Epoch
	}
	for _, t := range takings {
		if now, ok := epochs[t.Sale]; !ok || now != t.Epoch {
			return fmt.Errorf("take units of %s under epoch %d of %d: %w", t.Sale, t.Epoch, now, ErrStale)
		}
	}
	return nil
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
