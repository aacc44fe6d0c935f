package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// Fulfiller turns tickets into orders: one transaction for a batch, ticket by
// ticket when the batch does not go through as a whole. A ticket may be
// delivered any number of times; it makes one order and takes its units once.
// Safe for concurrent use.
type Fulfiller struct {
	db       *store.DB
	catalog  *inventory.Catalog
	book     *inventory.Book
	deadline time.Duration // of the payment; 0: none
	channels []string
	told     func()
	log      *slog.Logger
	now      func() time.Time
	instance string // which process this is, for an order's timeline
	orders   freshInsert
	outbox   *store.Bulk
	mixed    mixedInsert
}

// On names the process that fulfils, for an order's timeline.
func (f *Fulfiller) On(instance string) *Fulfiller {
	f.instance = instance
	return f
}

// NewFulfiller returns a handler for the consumer. Orders must be paid
// within deadline, or not at all when it is 0. Each order's news goes to the
// outbox for every channel; told is called after each commit.
func NewFulfiller(db *store.DB, catalog *inventory.Catalog, book *inventory.Book, deadline time.Duration, channels []string, told func(), log *slog.Logger, now func() time.Time) *Fulfiller {
	return &Fulfiller{db: db, catalog: catalog, book: book, deadline: deadline, channels: channels, told: told, log: log, now: now,
		orders: newFreshInsert(db), outbox: notify.NewInsert(db), mixed: newMixedInsert(db)}
}

// Handle implements queue.Handler.
func (f *Fulfiller) Handle(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
	sale, err := f.sale(ctx, b.Sale)
	if err != nil {
		return nil, faultOf(err)
	}
	tickets, ordered := split(b.Tickets)
	if len(tickets) == 0 {
		return ordered, nil
	}
	outcomes, err := f.parts(ctx, claim{sale: sale, epoch: b.Epoch, ledger: b.Ledger}, tickets)
	return append(outcomes, ordered...), faultOf(err)
}

// parts fulfils tickets together, or, when they do not fit as a whole, each
// half by itself: it takes few transactions to find the few that are to blame.
// With an error, which none of them has caused, come the outcomes so far.
func (f *Fulfiller) parts(ctx context.Context, c claim, tickets []queue.Ticket) ([]queue.Outcome, error) {
	if len(tickets) == 1 {
		one, err := f.alone(ctx, c, tickets[0])
		if err != nil {
			return nil, err
		}
		return []queue.Outcome{one}, nil
	}
	outcomes, err := f.fulfil(ctx, c, tickets)
	if err == nil || blameless(err) && !store.TooLarge(err) {
		return outcomes, err
	}
	f.log.Info("batch did not fit as a whole: halving it", "sale", c.sale.ID, "tickets", len(tickets), "error", err)
	half := len(tickets) / 2
	first, err := f.parts(ctx, c, tickets[:half])
	if err != nil {
		return first, err
	}
	second, err := f.parts(ctx, c, tickets[half:])
	return append(first, second...), err
}

// alone fulfils one ticket. The error is a fault that the ticket has no part in.
func (f *Fulfiller) alone(ctx context.Context, c claim, t queue.Ticket) (queue.Outcome, error) {
	outcomes, err := f.fulfil(ctx, c, []queue.Ticket{t})
	switch {
	case err == nil:
		return outcomes[0], nil
	case blameless(err):
		return queue.Outcome{}, err
	case errors.Is(err, inventory.ErrShort):
		return f.fail(ctx, c, t, ReasonSoldOut, queue.OpFail)
	case errors.Is(err, errOverLimit):
		return f.fail(ctx, c, t, ReasonLimit, queue.OpFail)
	}
	f.log.Error("ticket failed: it is tried again", "sale", c.sale.ID, "order", t.ID, "attempts", t.Attempts+1, "error", err)
	return queue.Outcome{ID: t.ID, Op: queue.OpRetry, Reason: err.Error(), Code: store.Code(err)}, nil
}

// blameless reports an error that is not provably a ticket's: neither its row's
// own, nor a rule of the sale. Tickets of a line that was loaded anew go back:
// whoever claims them next has the new epoch.
func blameless(err error) bool {
	return !store.RowFault(err) && !errors.Is(err, inventory.ErrShort) && !errors.Is(err, errOverLimit)
}

func (f *Fulfiller) sale(ctx context.Context, id string) (inventory.Sale, error) {
	if e, ok := f.book.Get(id); ok {
		return e.Sale, nil
	}
	sale, _, err := f.catalog.Get(ctx, id)
	return sale, err
}

// claim is under what the tickets of a batch were claimed.
type claim struct {
	sale   inventory.Sale
	epoch  int64 // of the line
	ledger int64 // newest change of the ledger that the line knew of
}

// errOverLimit says that a batch would give a user more units than allowed.
var errOverLimit = errors.New("a user would hold more than the limit")

// fulfil is the one transaction: orders, outbox, and last the hot stock row.
func (f *Fulfiller) fulfil(ctx context.Context, c claim, tickets []queue.Ticket) ([]queue.Outcome, error) {
	if err := f.Prepare(ctx); err != nil {
		return nil, err
	}
	// Made before the transaction: no lock and no connection waits for it.
	queued, others := divide(tickets)
	fresh := f.freshOf(c.sale, c.epoch, queued)
	var outcomes []queue.Outcome
	var change int64
	err := f.db.Tx(ctx, func(tx *gorm.DB) error {
		// The tag is new on every run, also when a lost commit reply makes the same
		// call run again: only rows of this very transaction may take stock.
		tag := newTag(f.now(), f.instance)
		change = 0
		result, err := f.write(tx, c, fresh, others, tag)
		if err != nil {
			return err
		}
		if change, err = f.endUndone(tx, c, result.undone); err != nil {
			return err
		}
		switch {
		case result.units > 0:
			change, err = inventory.Take(tx, inventory.Taking{Sale: c.sale.ID, Epoch: c.epoch, Units: result.units, Known: c.ledger})
		case len(result.conflicting) > 0:
			change, err = inventory.Standing(tx, inventory.Taking{Sale: c.sale.ID, Epoch: c.epoch, Known: c.ledger})
		case result.earlier && change == 0:
			change, err = inventory.Changes(tx, c.sale.ID)
		}
		if err != nil {
			return err
		}
		outcomes = result.outcomes
		killpoint.Pass("tx.before-commit")
		return checkLimit(tx, c.sale, result)
	})
	if err != nil {
		return nil, fmt.Errorf("fulfil %d tickets of %s: %w", len(tickets), c.sale.ID, err)
	}
	killpoint.Pass("tx.committed")
	f.told()
	if len(outcomes) > 0 {
		outcomes[0].Ledger = change // one is enough: the line takes the newest of a batch
	}
	return outcomes, nil
}

// Prepare makes the statements of the hot inserts ready. Handle does so by
// itself; whoever calls it before spares the first batch the wait.
func (f *Fulfiller) Prepare(ctx context.Context) error {
	return errors.Join(f.orders.prepare(ctx), f.outbox.Prepare(ctx))
}

// write adds a row for every ticket, and the news of those that are this
// transaction's. Where all queued tickets went in, as nearly always, there is
// nothing to read back.
func (f *Fulfiller) write(tx *gorm.DB, c claim, fresh *fresh, others []queue.Ticket, tag string) (batchResult, error) {
	f.stamp(fresh, tag)
	all, err := fresh.insert(tx, f.orders)
	if err != nil {
		return batchResult{}, err
	}
	stored := map[string]Row{}
	if !all {
		if err := f.readBack(tx, fresh.rows[ownID].Texts, stored); err != nil {
			return batchResult{}, err
		}
	}
	rows := make([]Row, len(others))
	for i, t := range others {
		rows[i] = f.row(c.sale, c.epoch, t, tag)
	}
	if err := f.insert(tx, rows, stored); err != nil {
		return batchResult{}, err
	}
	killpoint.Pass("tx.inserted")
	if all && len(others) == 0 {
		return fresh.result(c.sale.ID), fresh.announce(tx, f.outbox, f.channels)
	}
	result := classify(c.sale.ID, others, stored, tag)
	if !all {
		result = result.and(classify(c.sale.ID, fresh.tickets, stored, tag))
	}
	if err := f.reviveAll(tx, c, &result, tag); err != nil {
		return batchResult{}, err
	}
	if err := notify.Insert(tx, result.confirmed(f.channels, f.now())); err != nil {
		return batchResult{}, err
	}
	if all {
		result = result.and(fresh.result(c.sale.ID))
		if err := fresh.announce(tx, f.outbox, f.channels); err != nil {
			return batchResult{}, err
		}
	}
	if err := f.insertFailed(tx, c.sale, c.epoch, result.conflicting, tag); err != nil {
		return batchResult{}, err
	}
	return result, notify.Insert(tx, result.endings(f.channels, f.now()))
}

func (f *Fulfiller) row(sale inventory.Sale, epoch int64, t queue.Ticket, tag string) Row {
	now := f.now().UnixMilli()
	r := Row{ID: t.ID, SaleID: sale.ID, UserID: t.User, Slot: &t.Slot, Quantity: t.Units, PriceCents: sale.PriceCents, Currency: sale.Currency,
		Status: Confirmed, Email: t.Email, Phone: t.Phone, Seq: t.Seq, Epoch: epoch, BatchID: tag, Fingerprint: t.Fingerprint, Position: t.Position, ETASeconds: t.ETASeconds, Released: 1,
		AdmittedAt: t.AdmittedAt.UnixMilli(), ConfirmedAt: now, Locale: t.Locale, AdmittedBy: t.By, EndedBy: t.EndedBy, LateSeq: t.Mark}
	if t.Refund { // the line knows no more than that one must: it came when the order had ended
		r.Refund = RefundEnded
	}
	if f.deadline > 0 {
		// By the clock that ends it, which is not this host's.
		r.PayBy = f.book.Now().Add(f.deadline).UnixMilli()
	}
	if t.State != queue.Queued {
		r.Slot, r.Status, r.Reason, r.ConfirmedAt, r.PayBy, r.EndedAt = nil, statusOf(t.State), t.Reason, 0, 0, t.At.UnixMilli()
	}
	return r
}

// insert adds rows, leaving out those that conflict, and puts into stored what
// the database now holds under their ids. The rows go in by id, as fresh ones.
func (f *Fulfiller) insert(tx *gorm.DB, rows []Row, stored map[string]Row) error {
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.ID, b.ID) })
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	for chunk := range slices.Chunk(rows, f.db.MaxRows(rowColumns)) {
		if err := store.InsertIgnore(tx).Create(&chunk).Error; err != nil {
			return err
		}
	}
	return f.readBack(tx, ids, stored)
}

// readBack puts the rows under these ids into stored.
func (f *Fulfiller) readBack(tx *gorm.DB, ids []string, stored map[string]Row) error {
	for chunk := range slices.Chunk(ids, f.db.MaxRows(1)) {
		var found []Row
		if err := tx.Select("id", "sale_id", "user_id", "status", "reason", "quantity", "seq", "batch_id",
			"confirmed_at", "ended_at", "pay_by", "paid_at", "slot", "late_seq").
			Where("id IN ?", chunk).Find(&found).Error; err != nil {
			return err
		}
		for _, r := range found {
			stored[r.ID] = r
		}
		if err := fence(tx, stored, found); err != nil {
			return err
		}
	}
	return nil
}

// fence raises the fence of the expired orders among found, and corrects in
// stored those that were paid late meanwhile. Their tickets are what late
// payers left behind; once this commits, a payer that still lives cannot pay
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
	return tx.Model(&Row{}).Where("id IN ? AND status = ?", ids, Expired).Update("fence", gorm.Expr("fence + 1")).Error
}

// insertFailed records tickets whose user already holds another order.
func (f *Fulfiller) insertFailed(tx *gorm.DB, sale inventory.Sale, epoch int64, tickets []queue.Ticket, tag string) error {
	if len(tickets) == 0 {
		return nil
	}
	rows := make([]Row, len(tickets))
	for i, t := range tickets {
		rows[i] = f.failedRow(sale, epoch, t, ReasonLimit, tag)
	}
	return f.insert(tx, rows, map[string]Row{})
}
