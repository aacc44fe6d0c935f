package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/queue"
)

// era is one loading of a sale's line.
type era struct {
	SaleID   string `gorm:"primaryKey"`
	Epoch    int64  `gorm:"primaryKey"`
	Base     int64  // sequence of the newest ticket when it was loaded: those of this era come later
	Seq      int64  // newest sequence that anybody was answered before
	Lost     int64  // tickets of earlier eras that were in no store by then
	Restored int64  // orders put back into the ledger
	Refused  int64  // orders that could not be
	Cause    string
	Server   string // the Redis that held the line
	BeganAt  int64  // unix ms
}

// TableName names the table for GORM.
func (era) TableName() string { return "eras" }

// beginEra writes down how a line is loaded. It notes from which sequence on, and how many of the tickets that came
// before are in no store. What other processes were answered they add themselves, see addLosses.
func (k *Reconciler) beginEra(ctx context.Context, line *queue.Line, ledger ledgerState, left queue.Survey,
	e era) (era, error) {
	e.BeganAt = k.now().UnixMilli()
	e.Seq = max(left.Head.Seq, ledger.seq)
	for _, t := range left.Tickets {
		e.Seq = max(e.Seq, t.Seq)
	}
	err := k.db.Tx(ctx, func(tx *gorm.DB) error {
		var before era
		if err := tx.Where("sale_id = ? AND epoch < ?", e.SaleID, e.Epoch).Order("epoch DESC").Limit(1).Find(&before).
			Error; err != nil {
			return err
		}
		// What was seen before that loading is its loss, and addLosses adds it. Sequences after its base were given
		// anew.
		if seen, under := line.SeenBefore(e.Epoch); under >= before.Epoch {
			e.Seq = max(e.Seq, seen)
		}
		e.Base = e.Seq
		if before.Epoch == 0 { // of an installation that kept no eras yet
			before.Base = e.Seq
		}
		lost, err := countLost(tx, line.Sale(), max(before.Base, left.Head.Base), e.Seq, left)
		e.Lost = lost
		if err != nil {
			return err
		}
		return tx.Create(&e).Error
	})
	if err != nil {
		return e, fmt.Errorf("begin era %d: %w", e.Epoch, err)
	}
	return e, nil
}

// countLost counts the sequences after base, up to newest, of which neither the database nor the line has anything.
func countLost(tx *gorm.DB, sale string, base, newest int64, left queue.Survey) (int64, error) {
	var rows struct{ Known, Marks int64 }
	err := tx.Table("orders").Where("sale_id = ?", sale).
		Select("COALESCE(SUM(CASE WHEN seq > ? AND seq <= ? THEN 1 ELSE 0 END), 0) AS known, COALESCE(SUM(CASE "+
			"WHEN late_seq > ? THEN 1 ELSE 0 END), 0) AS marks",
			base, newest, base).Scan(&rows).Error
	if err != nil {
		return 0, err
	}
	tickets := map[string]int64{}
	for _, t := range left.Tickets {
		if t.Seq > base {
			tickets[t.ID] = t.Seq
		}
	}
	both, err := inventory.CountOrdered(tx, tickets)
	if err != nil {
		return 0, err
	}
	marks := rows.Marks
	if left.Head.Base == base {
		marks = max(marks, left.Head.Marks)
	}
	return max(newest-base-marks-rows.Known-int64(len(tickets))+both, 0), nil
}

// addLosses adds to the loss of an era what this process was answered and its loader did not know. The newest tickets
// may have gone with Redis, and only those who admitted them have seen them.
func (k *Reconciler) addLosses(ctx context.Context, sale string, epoch int64) error {
	seen, under := k.lines.Of(sale).SeenBefore(epoch)
	k.addedLosses.mu.Lock()
	done := k.addedLosses.epochs[sale] >= epoch
	k.addedLosses.mu.Unlock()
	if done {
		return nil
	}
	if seen > 0 {
		err := k.db.Tx(ctx, func(tx *gorm.DB) error {
			var next int64
			err := tx.Table("eras").Where("sale_id = ? AND epoch > ? AND epoch <= ?", sale, under, epoch).
				Select("COALESCE(MIN(epoch), 0)").Scan(&next).Error
			if err != nil {
				return err
			}
			return tx.Exec("UPDATE eras SET lost = lost + (? - seq), seq = ? WHERE sale_id = ? AND epoch = ? AND "+
				"seq < ?", seen, seen, sale, next, seen).Error
		})
		if err != nil {
			return fmt.Errorf("add to the losses of %s: %w", sale, err)
		}
	}
	k.addedLosses.mu.Lock()
	defer k.addedLosses.mu.Unlock()
	if len(k.addedLosses.epochs) >= maxAddedLosses {
		clear(k.addedLosses.epochs)
	}
	k.addedLosses.epochs[sale] = epoch
	return nil
}

// ErrElsewhere says that another Redis has just loaded a line that this one holds under an older epoch.
var ErrElsewhere = errors.New("another redis serves this sale: this one is cut off, or the wrong one")

// checkElsewhere returns ErrElsewhere for a while after another Redis has loaded a sale's line than the one looked
// at.
func (k *Reconciler) checkElsewhere(ctx context.Context, sale string, view queue.View) error {
	var last era
	if err := k.db.Write.WithContext(ctx).Where("sale_id = ?", sale).Order("epoch DESC").Limit(1).Find(&last).
		Error; err != nil {
		return fmt.Errorf("read the last era of %s: %w", sale, err)
	}
	if last.Server == "" || last.Server == view.Server || k.now().Sub(time.UnixMilli(last.BeganAt)) >= splitWait {
		return nil
	}
	return fmt.Errorf("the line of %s was loaded as epoch %d, and is epoch %d here: %w", sale, last.Epoch, view.Epoch,
		ErrElsewhere)
}

// maxAddedLosses bounds for how many sales a reconciler remembers what it has added.
const maxAddedLosses = 10_000
