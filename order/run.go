package order

import (
	"slices"
	"time"

	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// claim is the sale of a batch's tickets, and what the line knew when they were claimed.
type claim struct {
	sale   inventory.Sale
	epoch  int64 // of the line
	ledger int64 // newest change of the ledger that the line knew of
}

func claimOf(sale inventory.Sale, b queue.Batch) claim {
	return claim{sale: sale, epoch: b.Epoch, ledger: b.Ledger}
}

// taking returns what the ledger must know of units taken for, or given back by, tickets of the claim.
func (c claim) taking(units int64) inventory.Taking {
	return inventory.Taking{Sale: c.sale.ID, Epoch: c.epoch, Units: units, Known: c.ledger}
}

// stamp is what all orders of one run of a transaction share.
type stamp struct {
	tag   string    // batch_id; no two runs have the same
	now   time.Time // when they are confirmed
	payBy int64     // by when they must be paid, unix ms; 0: they need not be
}

// newStamp returns the stamp of a run that begins now.
func (f *Fulfiller) newStamp() stamp {
	now := f.now()
	s := stamp{tag: NewTag(now, f.instance), now: now}
	if f.deadline > 0 {
		// By the clock that ends it, which is not this host's.
		s.payBy = f.cache.Now().Add(f.deadline).UnixMilli()
	}
	return s
}

// run is one run of the transaction that turns a batch's tickets into orders. A lost commit reply makes the same call
// run again, under a new tag. Only rows of this very run may take stock.
type run struct {
	f  *Fulfiller
	tx *gorm.DB
	claim
	stamp
}

func (f *Fulfiller) begin(tx *gorm.DB, c claim) *run {
	return &run{f: f, tx: tx, claim: c, stamp: f.newStamp()}
}

// write adds a row for every ticket, and the news of those that are this run's. Nearly always all new orders go in, and
// nothing needs to be read back.
func (r *run) write(made *newOrders, others []queue.Ticket) (batchResult, error) {
	made.stamp(r.stamp)
	n, err := r.f.orders.oneSale.insert(r.tx, made.rows)
	if err != nil {
		return batchResult{}, err
	}
	all, stored := n == int64(len(made.rows)), map[string]Row{}
	if !all {
		if err := r.readBack(made.rows, stored); err != nil {
			return batchResult{}, err
		}
	}
	if err := r.insert(r.rowsOf(others), stored); err != nil {
		return batchResult{}, err
	}
	killpoint.Pass("tx.inserted")
	if all && len(others) == 0 {
		return made.result(r.sale.ID), made.announce(r.tx, r.f.outbox, r.f.channels)
	}
	result := classify(r.sale.ID, others, stored, r.tag)
	if !all {
		result = result.merge(classify(r.sale.ID, made.tickets, stored, r.tag))
	}
	if err := r.confirmRequeued(&result); err != nil {
		return batchResult{}, err
	}
	if err := notify.Insert(r.tx, result.confirmations(r.f.channels, r.now)); err != nil {
		return batchResult{}, err
	}
	if all {
		result = result.merge(made.result(r.sale.ID))
		if err := made.announce(r.tx, r.f.outbox, r.f.channels); err != nil {
			return batchResult{}, err
		}
	}
	if err := r.insertFailed(result.conflicting); err != nil {
		return batchResult{}, err
	}
	return result, notify.Insert(r.tx, result.endings(r.f.channels, r.now))
}

// rowsOf returns the rows of tickets.
func (r *run) rowsOf(tickets []queue.Ticket) []Row {
	rows := make([]Row, len(tickets))
	for i := range tickets {
		rows[i] = r.row(&tickets[i], r.stamp)
	}
	return rows
}

// insert adds rows, leaving out those that conflict. It puts into stored what the database now holds under their ids.
func (r *run) insert(rows []Row, stored map[string]Row) error {
	if _, err := r.f.orders.Insert(r.tx, rows); err != nil {
		return err
	}
	return r.readBack(rows, stored)
}

// readBack puts what the database holds under the ids of rows into stored.
func (r *run) readBack(rows []Row, stored map[string]Row) error {
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	for chunk := range slices.Chunk(ids, r.f.db.MaxRows(1)) {
		var found []Row
		if err := r.tx.Select("id", "sale_id", "user_id", "status", "reason", "quantity", "seq", "batch_id",
			"confirmed_at", "ended_at", "pay_by", "paid_at", "slot", "late_seq").
			Where("id IN ?", chunk).Find(&found).Error; err != nil {
			return err
		}
		for _, f := range found {
			stored[f.ID] = f
		}
		if err := raiseFence(r.tx, stored, found); err != nil {
			return err
		}
	}
	return nil
}

// raiseFence raises the fence of the expired orders among found. It corrects in stored those that were paid late
// meanwhile. Their tickets are what late payers left behind. Once this commits, a payer that still lives cannot pay
// with units that are being given back.
func raiseFence(tx *gorm.DB, stored map[string]Row, found []Row) error {
	var ids []string
	for _, r := range found {
		if r.Status == Expired {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var locked []Row
	if err := store.ForUpdate(tx).Where("id IN ?", ids).Order("id").Find(&locked).Error; err != nil {
		return err
	}
	for _, r := range locked {
		stored[r.ID] = r
	}
	raised := tx.Model(&Row{}).Where("id IN ? AND status = ?", ids, Expired)
	return raised.Update("fence", gorm.Expr("fence + 1")).Error
}

// insertFailed records tickets whose user already holds another order.
func (r *run) insertFailed(tickets []queue.Ticket) error {
	if len(tickets) == 0 {
		return nil
	}
	rows := make([]Row, len(tickets))
	for i := range tickets {
		rows[i] = r.failedRow(&tickets[i], ReasonLimit, r.stamp)
	}
	return r.insert(rows, map[string]Row{})
}

// moveStock takes the units of new orders out of the ledger, last of all: its row is hot. It returns the newest change
// of the ledger that the line may know, 0 for none.
func (r *run) moveStock(result batchResult) (change int64, err error) {
	if change, err = r.endUndone(result.undone); err != nil {
		return 0, err
	}
	switch {
	case result.units > 0:
		return inventory.Take(r.tx, r.taking(result.units))
	case len(result.conflicting) > 0:
		return inventory.Standing(r.tx, r.taking(0))
	case result.earlier && change == 0:
		return inventory.Changes(r.tx, r.sale.ID)
	}
	return change, nil
}

// failedRow returns the row of a ticket that cannot become an order for this reason.
func (c claim) failedRow(t *queue.Ticket, reason string, s stamp) Row {
	r := c.row(t, s)
	if t.State == queue.Queued {
		r.End(Failed, reason, s.now.UnixMilli())
	}
	return r
}
