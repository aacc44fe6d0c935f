package audit

import (
	"context"
	"errors"
	"slices"

	"gorm.io/gorm"

	"sluice/queue"
)

// compare looks at the line, then at the database, then at the line again. Between the first two looks orders may
// have been made. They are recognised by their id (they were in flight) or their sequence (they came later). They are
// counted as they stood at the first look. So are units of ended orders. Those still on their way back are known by
// their released mark. Those that arrived between the looks are in the line's own list.
func (a *Auditor) compare(ctx context.Context, id string, whole bool) (Sale, error) {
	line := a.lines.Of(id)
	snap, err := line.Snapshot(ctx)
	if err != nil {
		return Sale{}, err
	}
	if snap.Rebuilding {
		return Sale{}, errMoved
	}
	ledger, err := a.readLedger(ctx, line, snap, whole)
	if err != nil {
		return Sale{}, err
	}
	r := Sale{Sale: id, Epoch: snap.Epoch, Total: ledger.stock.Total, Available: ledger.stock.Available,
		Live: ledger.live, OverLimit: ledger.overLimit,
		NoOutbox: ledger.noOutbox, LinePresent: snap.Exists, LineStock: snap.Stock, Unleased: snap.Unleased}
	r.Lost, r.Restored, r.Refused = ledger.eras.Lost, ledger.eras.Restored, ledger.eras.Refused
	for _, units := range snap.InFlight {
		r.InFlight += units
	}
	if snap.Exists {
		r.Admitted = snap.Seq - snap.Base - snap.Marks
		r.Found = ledger.found
		r.Missing = r.Admitted - r.Found
		inLedger := ledger.stock.Available - (ledger.stock.Total - snap.Total) + ledger.later +
			ledger.arrived - ledger.pending
		r.Difference = inLedger - (snap.Stock + r.InFlight)
	}
	if !snap.Exists && !ledger.sale.Finished(a.now()) {
		r.Problems = append(r.Problems, "the line is missing from Redis")
		return r, errMoved
	}
	r.Compared = true
	r.classify(ledger.sale, snap)
	return r, nil
}

// pending counts the units that have ended in the database but had not returned to the line at its snapshot. It asks
// first of all in tx, and thereby begins the snapshot of the database.
func (a *Auditor) pending(ctx context.Context, tx *gorm.DB, line *queue.Line, snap queue.Snapshot) (int64, error) {
	var rows []endedUnits
	// A dead letter that came back and ended since the snapshot held nothing then.
	err := tx.Table("orders").Where("released = 0 AND sale_id = ? AND NOT (epoch = ? AND late_seq > ?)", line.Sale(),
		snap.Epoch, snap.Seq).
		Select("id, quantity, seq, epoch").Scan(&rows).Error
	if err != nil || !snap.Exists {
		return 0, err
	}
	counted := make(map[string]bool)
	var units int64
	count := func(r endedUnits) {
		_, inFlight := snap.InFlight[r.ID]
		later := r.Epoch == snap.Epoch && r.Seq > snap.Seq
		if !inFlight && !later && !counted[r.ID] {
			counted[r.ID] = true
			units += r.Quantity
		}
	}
	for chunk := range slices.Chunk(rows, idsAtOnce) {
		known, _, err := line.Lookup(ctx, idsOf(chunk))
		if err != nil {
			return 0, err
		}
		for _, r := range chunk {
			if t, ok := known[r.ID]; ok && t.State == queue.Confirmed {
				count(r)
			}
		}
	}
	returned, err := a.returned(ctx, tx, line, snap)
	for _, r := range returned {
		count(r)
	}
	return units, err
}

// returned returns the orders that had ended in the database and came back to the line after its snapshot. It
// includes those whose units a late payment has taken again. countLive takes them for units that were in stock. Dead
// letters that came back and ended since then were in stock all the time.
func (a *Auditor) returned(ctx context.Context, tx *gorm.DB, line *queue.Line, snap queue.Snapshot) ([]endedUnits,
	error) {
	epoch, ids, err := line.ReleasedSince(ctx, snap)
	if errors.Is(err, queue.ErrNotReady) || err == nil && epoch != snap.Epoch {
		return nil, errMoved
	}
	if err != nil {
		return nil, err
	}
	var all []endedUnits
	for chunk := range slices.Chunk(ids, idsAtOnce) {
		var rows []endedUnits
		then := "id IN ? AND (slot IS NULL AND late_seq <= ? OR slot IS NOT NULL AND late_seq > ?)"
		err := tx.Table("orders").Where(then, chunk, snap.Seq, snap.Seq).Select("id, quantity, seq, epoch").
			Scan(&rows).Error
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

func idsOf(rows []endedUnits) []string {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	return ids
}
