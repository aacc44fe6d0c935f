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
	return &Fulfiller{db: db, catalog: catalog, book: book, deadline: deadline, channels: channels, told: told, log: log, now: now}
}

// Handle implements queue.Handler.
func (f *Fulfiller) Handle(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
	sale, err := f.sale(ctx, b.Sale)
	if err != nil {
		return nil, err
	}
	tickets, ordered := split(b.Tickets)
	if len(tickets) == 0 {
		return ordered, nil
	}
	outcomes, err := f.fulfil(ctx, sale, b.Epoch, tickets)
	if err == nil || blameless(err) {
		return append(outcomes, ordered...), err
	}
	if len(tickets) > 1 {
		f.log.Info("batch did not fit as a whole: going ticket by ticket", "sale", b.Sale, "tickets", len(tickets), "error", err)
	}
	outcomes = ordered
	for _, t := range tickets {
		one, err := f.alone(ctx, sale, b.Epoch, t)
		if err != nil {
			return outcomes, err
		}
		outcomes = append(outcomes, one)
	}
	return outcomes, nil
}

// alone fulfils one ticket. The error is a fault that the ticket has no part in.
func (f *Fulfiller) alone(ctx context.Context, sale inventory.Sale, epoch int64, t queue.Ticket) (queue.Outcome, error) {
	outcomes, err := f.fulfil(ctx, sale, epoch, []queue.Ticket{t})
	switch {
	case err == nil:
		return outcomes[0], nil
	case blameless(err):
		return queue.Outcome{}, err
	case errors.Is(err, inventory.ErrShort):
		return f.fail(ctx, sale, epoch, t, ReasonSoldOut, queue.OpFail)
	case errors.Is(err, errOverLimit):
		return f.fail(ctx, sale, epoch, t, ReasonLimit, queue.OpFail)
	}
	f.log.Error("ticket failed: it is tried again", "sale", sale.ID, "order", t.ID, "attempts", t.Attempts+1, "error", err)
	return queue.Outcome{ID: t.ID, Op: queue.OpRetry, Reason: err.Error()}, nil
}

// blameless reports an error that no ticket has caused. Tickets of a line that
// was loaded anew go back: whoever claims them next has the new epoch.
func blameless(err error) bool {
	return store.Unavailable(err) || errors.Is(err, inventory.ErrStale)
}

// Bury implements queue.Handler: it records tickets as failed unless their
// orders exist.
func (f *Fulfiller) Bury(ctx context.Context, b queue.Batch, reason string) ([]queue.Outcome, error) {
	sale, err := f.sale(ctx, b.Sale)
	if err != nil {
		return nil, err
	}
	outcomes := make([]queue.Outcome, 0, len(b.Tickets))
	for _, t := range b.Tickets {
		f.log.Error("ticket dead-lettered", "sale", b.Sale, "order", t.ID, "reason", reason)
		one, err := f.fail(ctx, sale, b.Epoch, t, ReasonGaveUp, queue.OpDead)
		if err != nil {
			return outcomes, err
		}
		outcomes = append(outcomes, one)
	}
	return outcomes, nil
}

func (f *Fulfiller) sale(ctx context.Context, id string) (inventory.Sale, error) {
	if e, ok := f.book.Get(id); ok {
		return e.Sale, nil
	}
	sale, _, err := f.catalog.Get(ctx, id)
	return sale, err
}

// errOverLimit says that a batch would give a user more units than allowed.
var errOverLimit = errors.New("a user would hold more than the limit")

// fulfil is the one transaction: orders, outbox, and last the hot stock row.
func (f *Fulfiller) fulfil(ctx context.Context, sale inventory.Sale, epoch int64, tickets []queue.Ticket) ([]queue.Outcome, error) {
	var outcomes []queue.Outcome
	err := f.db.Tx(ctx, func(tx *gorm.DB) error {
		// The tag is new on every run, also when a lost commit reply makes the same
		// call run again: only rows of this very transaction may take stock.
		tag := newTag(f.now(), f.instance)
		rows := make([]Row, len(tickets))
		for i, t := range tickets {
			rows[i] = f.row(sale, epoch, t, tag)
		}
		stored, err := f.insert(tx, rows)
		if err != nil {
			return err
		}
		killpoint.Pass("tx.inserted")
		result := classify(sale.ID, tickets, stored, tag)
		if err := f.insertFailed(tx, sale, epoch, result.conflicting, tag); err != nil {
			return err
		}
		if err := notify.Insert(tx, result.news(f.channels, f.now())); err != nil {
			return err
		}
		if result.units > 0 {
			if err := inventory.Take(tx, sale.ID, epoch, result.units); err != nil {
				return err
			}
		}
		outcomes = result.outcomes
		killpoint.Pass("tx.before-commit")
		return checkLimit(tx, sale, result)
	})
	if err != nil {
		return nil, fmt.Errorf("fulfil %d tickets of %s: %w", len(tickets), sale.ID, err)
	}
	killpoint.Pass("tx.committed")
	f.told()
	return outcomes, nil
}

func (f *Fulfiller) row(sale inventory.Sale, epoch int64, t queue.Ticket, tag string) Row {
	now := f.now().UnixMilli()
	r := Row{ID: t.ID, SaleID: sale.ID, UserID: t.User, Slot: &t.Slot, Quantity: t.Units, PriceCents: sale.PriceCents, Currency: sale.Currency,
		Status: Confirmed, Email: t.Email, Phone: t.Phone, Seq: t.Seq, Epoch: epoch, BatchID: tag, Fingerprint: t.Fingerprint, Position: t.Position, ETASeconds: t.ETASeconds, Released: 1,
		AdmittedAt: t.AdmittedAt.UnixMilli(), ConfirmedAt: now, Locale: t.Locale}
	if f.deadline > 0 {
		// By the clock that ends it, which is not this host's.
		r.PayBy = f.book.Now().Add(f.deadline).UnixMilli()
	}
	if t.State != queue.Queued {
		r.Slot, r.Status, r.Reason, r.ConfirmedAt, r.PayBy, r.EndedAt = nil, statusOf(t.State), t.Reason, 0, 0, t.At.UnixMilli()
	}
	return r
}

// insert adds rows, leaving out those that conflict, and returns what the
// database now holds under their ids. The rows go in by id, so that two
// deliveries of the same tickets wait for each other and never deadlock.
func (f *Fulfiller) insert(tx *gorm.DB, rows []Row) (map[string]Row, error) {
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.ID, b.ID) })
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	stored := make(map[string]Row, len(rows))
	size := f.db.MaxRows(rowColumns)
	for from := 0; from < len(rows); from += size {
		to := min(from+size, len(rows))
		chunk := rows[from:to]
		if err := store.InsertIgnore(tx).Create(&chunk).Error; err != nil {
			return nil, err
		}
		var found []Row
		if err := tx.Select("id", "sale_id", "user_id", "status", "reason", "quantity", "batch_id", "confirmed_at", "ended_at", "pay_by", "paid_at").Where("id IN ?", ids[from:to]).Find(&found).Error; err != nil {
			return nil, err
		}
		for _, r := range found {
			stored[r.ID] = r
		}
		if err := fence(tx, stored, found); err != nil {
			return nil, err
		}
	}
	return stored, nil
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
	_, err := f.insert(tx, rows)
	return err
}

func (f *Fulfiller) failedRow(sale inventory.Sale, epoch int64, t queue.Ticket, reason, tag string) Row {
	r := f.row(sale, epoch, t, tag)
	if t.State == queue.Queued {
		r.Slot, r.Status, r.Reason, r.ConfirmedAt, r.PayBy, r.EndedAt = nil, Failed, reason, 0, 0, f.now().UnixMilli()
	}
	return r
}

// fail records one ticket as failed, unless its order exists after all. The
// error is a fault of the database.
func (f *Fulfiller) fail(ctx context.Context, sale inventory.Sale, epoch int64, t queue.Ticket, reason string, op queue.Op) (queue.Outcome, error) {
	outcome, event := queue.Outcome{ID: t.ID, Op: op, Reason: reason}, notify.EventFailed
	if t.State != queue.Queued {
		outcome, event = queue.Outcome{ID: t.ID, Op: queue.OpClose}, endingOf(t)
	}
	err := f.db.Tx(ctx, func(tx *gorm.DB) error {
		tag := newTag(f.now(), f.instance)
		stored, err := f.insert(tx, []Row{f.failedRow(sale, epoch, t, reason, tag)})
		if err != nil {
			return err
		}
		if r := stored[t.ID]; r.BatchID != tag {
			outcome = known(t, r)
			return nil
		}
		return notify.Insert(tx, newsOf(t, sale.ID, event, f.channels, f.now()))
	})
	if store.Unavailable(err) {
		return outcome, fmt.Errorf("record ticket %s as failed: %w", t.ID, err)
	}
	if err != nil && t.Email+t.Phone != "" {
		// The contact may be what the database refuses; without it the owner can still look the order up.
		t.Email, t.Phone = "", ""
		return f.fail(ctx, sale, epoch, t, reason, op)
	}
	if err != nil {
		// Not even the failure can be written: the dead letter is all that is left of it.
		f.log.Error("failed ticket not recorded in the database", "sale", sale.ID, "order", t.ID, "error", err)
		return queue.Outcome{ID: t.ID, Op: queue.OpDead, Reason: reason}, nil
	}
	f.told()
	return outcome, nil
}
