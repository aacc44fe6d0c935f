package audit

import (
	"context"
	"slices"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
)

// ledger is what one snapshot of the database says of a sale.
type ledger struct {
	sale      inventory.Sale
	stock     inventory.Stock
	live      int64 // units of live orders
	later     int64 // of those, admitted, or taken again by a late payment, after the line's snapshot
	arrived   int64 // of those, in flight at the line's snapshot and not taken again since
	pending   int64 // units of ended orders, not yet back in the line at its snapshot
	overLimit int64
	noOutbox  int64
	found     int64 // orders answered since the line was loaded that are a ticket at its snapshot, or a row
	eras      eraSums
}

// eraSums are over all loadings of a line.
type eraSums struct{ Lost, Restored, Refused int64 }

type endedUnits struct {
	ID                   string
	Quantity, Seq, Epoch int64
}

func (a *Auditor) readLedger(ctx context.Context, line *queue.Line, snap queue.Snapshot,
	whole bool) (ledger, error) {
	var l ledger
	id := line.Sale()
	err := a.db.Snapshot(ctx, func(tx *gorm.DB) (err error) {
		if l.pending, err = a.pending(ctx, tx, line, snap); err != nil {
			return err
		}
		if err := tx.Take(&l.sale, "id = ?", id).Error; err != nil {
			return err
		}
		if err := tx.Take(&l.stock, "sale_id = ?", id).Error; err != nil {
			return err
		}
		if snap.Exists && l.sale.Epoch != snap.Epoch {
			return errMoved
		}
		if err := l.countLive(tx, id, snap); err != nil || !whole {
			return err
		}
		return a.countWrong(tx, id, &l)
	})
	return l, err
}

// countWrong finds users who hold too much and orders without an outbox row.
func (a *Auditor) countWrong(tx *gorm.DB, id string, l *ledger) error {
	overLimit := tx.Table("orders").Where("sale_id = ? AND slot IS NOT NULL", id).Group("user_id").
		Having("SUM(quantity) > ?", l.sale.PerUserLimit).Select("user_id")
	if err := tx.Table("(?) AS over_limit", overLimit).Count(&l.overLimit).Error; err != nil {
		return err
	}
	return tx.Table("orders").Where("sale_id = ? AND slot IS NOT NULL AND confirmed_at > ?", id, a.now().Add(-a.kept).
		UnixMilli()).
		Where(a.withoutOutbox()).Count(&l.noOutbox).Error
}

// withoutOutbox returns the condition that an order has no outbox row. MariaDB may turn NOT EXISTS into one reading
// of the whole outbox for every sale. With a thousand sales an audit then takes minutes. A count it makes order by
// order.
func (a *Auditor) withoutOutbox() string {
	if a.db.Driver == store.MySQL {
		return "(SELECT COUNT(*) FROM outbox WHERE outbox.order_id = orders.id) = 0"
	}
	return "NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.order_id = orders.id)"
}

// countTickets adds the tickets of this loading that have no row yet.
func (l *ledger) countTickets(tx *gorm.DB, snap queue.Snapshot) error {
	tickets := make(map[string]int64, len(snap.Seqs))
	for id, seq := range snap.Seqs {
		if seq > snap.Base {
			tickets[id] = seq
		}
	}
	both, err := inventory.CountOrdered(tx, tickets)
	l.found += int64(len(tickets)) - both
	return err
}

func (l *ledger) countLive(tx *gorm.DB, id string, snap queue.Snapshot) error {
	var sums struct{ Live, Later, Found int64 }
	err := tx.Table("orders").Where("sale_id = ?", id).
		Select("COALESCE(SUM(CASE WHEN slot IS NOT NULL THEN quantity ELSE 0 END), 0) AS live, "+
			"COALESCE(SUM(CASE WHEN slot IS NOT NULL AND epoch = ? AND (seq > ? OR late_seq > ?) THEN quantity "+
			"ELSE 0 END), 0) AS later, "+
			"COALESCE(SUM(CASE WHEN seq > ? AND seq <= ? THEN 1 ELSE 0 END), 0) AS found",
			snap.Epoch, snap.Seq, snap.Seq, snap.Base, snap.Seq).
		Scan(&sums).Error
	if err != nil {
		return err
	}
	l.live, l.later, l.found = sums.Live, sums.Later, sums.Found
	if err := l.countTickets(tx, snap); err != nil {
		return err
	}
	err = tx.Table("eras").Where("sale_id = ?", id).
		Select("COALESCE(SUM(lost), 0) AS lost, COALESCE(SUM(restored), 0) AS restored, COALESCE(SUM(refused), 0) " +
			"AS refused").Scan(&l.eras).Error
	if err != nil {
		return err
	}
	ids := make([]string, 0, len(snap.InFlight))
	for id := range snap.InFlight {
		ids = append(ids, id)
	}
	for chunk := range slices.Chunk(ids, idsAtOnce) {
		var units int64
		if err := tx.Table("orders").Where("id IN ? AND slot IS NOT NULL AND NOT (epoch = ? AND late_seq > ?)", chunk,
			snap.Epoch, snap.Seq).Select("COALESCE(SUM(quantity), 0)").Scan(&units).Error; err != nil {
			return err
		}
		l.arrived += units
	}
	return nil
}
