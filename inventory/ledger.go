package inventory

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"

	"sluice/store"
)

// Taking is what is taken from one sale.
type Taking struct {
	Sale  string
	Epoch int64 // of the line, under which the tickets were claimed
	Units int64
	Known int64 // newest change of the ledger that the line knew of when they were claimed; 0: none
}

// Take removes units from a sale's ledger inside the caller's transaction and returns the number of this change.
// Callers roll back on an error: ErrShort when fewer are available, ErrStale when the line has been loaded anew
// since. ErrBehind says that the ledger lacks a change that the line knows of. The row stays locked until the
// transaction ends, so callers take it last.
func Take(tx *gorm.DB, t Taking) (change int64, err error) {
	done := tx.Exec("UPDATE stock SET available = available - ?, changes = changes + 1 WHERE sale_id = ? AND "+
		"available >= ?", t.Units, t.Sale, t.Units)
	if done.Error != nil {
		return 0, fmt.Errorf("take %d units of %s from the ledger: %w", t.Units, t.Sale, done.Error)
	}
	if done.RowsAffected != 1 {
		return 0, whyShort(tx, t)
	}
	changes, err := confirm(tx, []Taking{t})
	return changes[t.Sale], err
}

// whyShort says why a sale has fewer units than are to be taken. They went to others, or those of another loading
// were asked for. Or a database lacks the commits which added them.
func whyShort(tx *gorm.DB, t Taking) error {
	if _, err := Standing(tx, t); err != nil {
		return err
	}
	return fmt.Errorf("take %d units of %s: %w", t.Units, t.Sale, ErrShort)
}

// TakeEach takes as Take does for several different sales: all of it or, with the caller's rollback, nothing. It
// returns the numbers of the changes by sale. An error does not say which of them it is about.
func TakeEach(tx *gorm.DB, takings []Taking) (changes map[string]int64, err error) {
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
	// In an order of their own: an UPDATE locks rows as it finds them. Two with the same sales would end in a
	// deadlock.
	var locked []string
	if err := store.ForUpdate(tx).Table("stock").Where("sale_id IN ?", ids).Order("sale_id").Pluck("sale_id", &locked).
		Error; err != nil {
		return nil, fmt.Errorf("lock the stock of %d sales: %w", len(ids), err)
	}
	args := append(append(slices.Clone(amounts), ids), amounts...)
	// #nosec G202 -- placeholders
	done := tx.Exec("UPDATE stock SET changes = changes + 1, available = available - "+units.String()+" WHERE "+
		"sale_id IN ? AND available >= "+units.String(), args...)
	if done.Error != nil {
		return nil, fmt.Errorf("take units of %d sales from the ledger: %w", len(ids), done.Error)
	}
	if done.RowsAffected != int64(len(ids)) {
		return nil, fmt.Errorf("take units of %d sales, of which %d have them: %w", len(ids), done.RowsAffected,
			ErrShort)
	}
	return confirm(tx, takings)
}

// confirm reads the epochs of sales and the numbers of the changes that were just made to their stock.
//
// A rebuild raises the epoch while it holds the stock row, which the caller holds now. Either the rebuild reads what
// the caller commits, or the caller reads the new epoch here. A worker whose tickets were lost with Redis thus cannot
// make orders that the rebuilt line does not count. A change that is not newer than what the line knew was made by a
// database that has lost commits. One that took over too early does so.
func confirm(tx *gorm.DB, takings []Taking) (map[string]int64, error) {
	ids := make([]string, len(takings))
	for i, t := range takings {
		ids[i] = t.Sale
	}
	var found []struct {
		ID             string
		Epoch, Changes int64
	}
	err := tx.Table("sales").Joins("JOIN stock ON stock.sale_id = sales.id").Where("sales.id IN ?", ids).
		Select("sales.id, sales.epoch, stock.changes").Scan(&found).Error
	if err != nil {
		return nil, fmt.Errorf("read the epochs of %d sales: %w", len(ids), err)
	}
	changes, epochs := make(map[string]int64, len(found)), make(map[string]int64, len(found))
	for _, f := range found {
		changes[f.ID], epochs[f.ID] = f.Changes, f.Epoch
	}
	for _, t := range takings {
		if epoch, ok := epochs[t.Sale]; !ok || epoch != t.Epoch {
			return nil, fmt.Errorf("take units of %s under epoch %d of %d: %w", t.Sale, t.Epoch, epoch, ErrStale)
		}
		if changes[t.Sale] <= t.Known {
			return nil, fmt.Errorf("change %d of the stock of %s, when its line knows of %d: %w", changes[t.Sale],
				t.Sale, t.Known, ErrBehind)
		}
	}
	return changes, nil
}

// Standing checks as Take does, for who takes nothing but is about to believe what the ledger says. It returns the
// number of the newest change.
func Standing(tx *gorm.DB, t Taking) (newest int64, err error) {
	t.Known-- // nothing was changed here
	changes, err := confirm(tx, []Taking{t})
	return changes[t.Sale], err
}

// Changes returns the number of the newest change of a sale's stock.
func Changes(tx *gorm.DB, sale string) (newest int64, err error) {
	if err := tx.Table("stock").Where("sale_id = ?", sale).Select("changes").Scan(&newest).Error; err != nil {
		return 0, fmt.Errorf("read the changes of %s: %w", sale, err)
	}
	return newest, nil
}

// GiveBack returns units that were taken for tickets of a line, and the number of this change. It returns ErrStale
// when the line has been loaded anew since. It returns ErrBehind when the database lacks changes that the line knows
// of.
func GiveBack(tx *gorm.DB, t Taking) (change int64, err error) {
	if err := Return(tx, t.Sale, t.Units); err != nil {
		return 0, err
	}
	changes, err := confirm(tx, []Taking{t})
	return changes[t.Sale], err
}

// Return gives units back to a sale's ledger inside the caller's transaction.
func Return(tx *gorm.DB, sale string, units int64) error {
	done := tx.Exec("UPDATE stock SET available = available + ?, changes = changes + 1 WHERE sale_id = ?", units, sale)
	if done.Error != nil {
		return fmt.Errorf("return %d units of %s to the ledger: %w", units, sale, done.Error)
	}
	if done.RowsAffected != 1 {
		return fmt.Errorf("return %d units of %s: %w", units, sale, ErrNoSale)
	}
	return nil
}

// idsAtOnce is how many ids one query names.
const idsAtOnce = 500

// CountOrdered counts those of the tickets, id → sequence, that have a row. One with an earlier sequence does not
// count. It is of a request that was repeated after the line had forgotten it.
func CountOrdered(tx *gorm.DB, tickets map[string]int64) (known int64, err error) {
	for chunk := range slices.Chunk(slices.Collect(maps.Keys(tickets)), idsAtOnce) {
		var rows []struct {
			ID  string
			Seq int64
		}
		if err := tx.Table("orders").Where("id IN ?", chunk).Select("id, seq").Scan(&rows).Error; err != nil {
			return 0, err
		}
		for _, r := range rows {
			if r.Seq >= tickets[r.ID] {
				known++
			}
		}
	}
	return known, nil
}
