package inventory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"gorm.io/gorm"

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

// beginEra writes down how a line is loaded: from which sequence on, and how many of the tickets that came before are
// in no store. What other processes were answered they add themselves, see learn.
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
		// What was seen before that loading is its loss, which learn adds to it: sequences after its base were given
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
	both, err := countKnown(tx, tickets)
	if err != nil {
		return 0, err
	}
	marks := rows.Marks
	if left.Head.Base == base {
		marks = max(marks, left.Head.Marks)
	}
	return max(newest-base-marks-rows.Known-int64(len(tickets))+both, 0), nil
}

// countKnown counts those of the tickets, id → sequence, that have a row. One with an earlier sequence does not count:
// it is of a request that was repeated after the line had forgotten it.
func countKnown(tx *gorm.DB, tickets map[string]int64) (known int64, err error) {
	for chunk := range slices.Chunk(slices.Collect(maps.Keys(tickets)), auditIDs) {
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

// learn adds to the loss of the era that followed what this process was answered and whoever loaded the line did not
// know: the newest tickets may have gone with Redis, and only those who admitted them have seen them.
func (k *Reconciler) learn(ctx context.Context, sale string, epoch int64) error {
	seen, under := k.lines.Of(sale).SeenBefore(epoch)
	k.learnt.mu.Lock()
	done := k.learnt.epochs[sale] >= epoch
	k.learnt.mu.Unlock()
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
	k.learnt.mu.Lock()
	defer k.learnt.mu.Unlock()
	if len(k.learnt.epochs) >= mostLearnt {
		clear(k.learnt.epochs)
	}
	k.learnt.epochs[sale] = epoch
	return nil
}

// ErrElsewhere says that another Redis has just loaded a line that this one holds under an older epoch.
var ErrElsewhere = errors.New("another redis serves this sale: this one is cut off, or the wrong one")

// elsewhere returns ErrElsewhere for a while after another Redis than the one that was looked at has loaded a sale's
// line.
func (k *Reconciler) elsewhere(ctx context.Context, sale string, view queue.View) error {
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

// mostLearnt bounds for how many sales a reconciler remembers what it has added.
const mostLearnt = 10_000

// rebuilds counts how often a line was rebuilt for a cause since a moment.
func (k *Reconciler) rebuilds(ctx context.Context, sale, cause string, since time.Time) (n int64, err error) {
	err = k.db.Read.WithContext(ctx).Table("eras").Where("sale_id = ? AND cause = ? AND began_at > ?", sale, cause,
		since.UnixMilli()).Count(&n).Error
	if err != nil {
		return 0, fmt.Errorf("count the rebuilds of %s: %w", sale, err)
	}
	return n, nil
}
