package order

import (
	"cmp"
	"slices"
	"time"

	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// claim says of a batch which sale its tickets are for, and what the line knew when they were claimed.
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
	s := stamp{tag: newTag(now, f.instance), now: now}
	if f.deadline > 0 {
		// By the clock that ends it, which is not this host's.
		s.payBy = f.cache.Now().Add(f.deadline).UnixMilli()
	}
	return s
}

// run is one run of the transaction that turns a batch's tickets into orders. Its tag is new also when a lost commit
// reply makes the same call run again: only rows of this very run may take stock.
type run struct {
	f  *Fulfiller
	tx *gorm.DB
	claim
	stamp
}

func (f *Fulfiller) begin(tx *gorm.DB, c claim) *run {
	return &run{f: f, tx: tx, claim: c, stamp: f.newStamp()}
}

// write adds a row for every ticket, and the news of those that are this run's. Where all new orders went in, as
// nearly always, there is nothing to read back.
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
	if err := notify.Insert(r.tx, result.confirmed(r.f.channels, r.now)); err != nil {
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

// rowsOf returns the rows of tickets, by id.
func (r *run) rowsOf(tickets []queue.Ticket) []Row {
	rows := make([]Row, len(tickets))
	for i := range tickets {
		rows[i] = r.row(&tickets[i], r.stamp)
	}
	return sortByID(rows)
}

func sortByID(rows []Row) []Row {
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// insert adds rows, leaving out those that conflict. It puts into stored what the database now holds under their ids.
func (r *run) insert(rows []Row, stored map[string]Row) error {
	if _, err := r.f.orders.insert(r.tx, rows); err != nil {
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
		if err := fence(r.tx, stored, found); err != nil {
			return err
		}
	}
	return nil
}

// fence raises the fence of the expired orders among found. It corrects in stored those that were paid late
// meanwhile. Their tickets are what late payers left behind: once this commits, a payer that still lives cannot pay
// with units that are being given back.
func fence(tx *gorm.DB, stored map[string]Row, found []Row) error {
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
	return r.insert(sortByID(rows), map[string]Row{})
}

// moveStock takes the units of new orders out of the ledger, last of all: its row is hot. It returns the newest
// change of the ledger that the line may be told of, 0 for none.
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

// row returns the row of a ticket: an order, or what it ended as in the line.
func (c claim) row(t *queue.Ticket, s stamp) Row {
	r := ticketRow(c.sale, c.epoch, t)
	r.Slot, r.Status, r.BatchID, r.ConfirmedAt, r.PayBy = &t.Slot, Confirmed, s.tag, s.now.UnixMilli(), s.payBy
	r.Email, r.Phone, r.Locale = t.Email, t.Phone, t.Locale
	r.AdmittedBy, r.EndedBy, r.LateSeq = t.By, t.EndedBy, t.Mark
	if t.Refund { // the line knows no more than that one must: it came when the order had ended
		r.Refund = RefundEnded
	}
	if t.State != queue.Queued {
		r.end(statusOf(t.State), t.Reason, t.At.UnixMilli())
	}
	return r
}

// failedRow returns the row of a ticket that cannot become an order for this reason.
func (c claim) failedRow(t *queue.Ticket, reason string, s stamp) Row {
	r := c.row(t, s)
	if t.State == queue.Queued {
		r.end(Failed, reason, s.now.UnixMilli())
	}
	return r
}

// ticketRow returns the part of a row that every ticket and its sale say. Whoever writes it adds what became of it.
func ticketRow(sale inventory.Sale, epoch int64, t *queue.Ticket) Row {
	return Row{ID: t.ID, SaleID: sale.ID, UserID: t.User, Quantity: t.Units, PriceCents: sale.PriceCents,
		Currency: sale.Currency, Seq: t.Seq, Epoch: epoch, Fingerprint: t.Fingerprint, Position: t.Position,
		ETASeconds: t.ETASeconds, Released: 1, AdmittedAt: t.AdmittedAt.UnixMilli()}
}

// end makes a row one of an order that has ended: it holds no slot, and its units are not in the ledger.
func (r *Row) end(status, reason string, at int64) {
	r.Slot, r.Status, r.Reason, r.EndedAt = nil, status, reason, at
	r.ConfirmedAt, r.PayBy, r.PaidAt = 0, 0, 0
}
