package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// Canceller ends orders at their owners' wish. Safe for concurrent use.
type Canceller struct {
	db         *store.DB
	lines      *queue.Lines
	reconciler *reconcile.Reconciler
	channels   []string
	onCommit   func()
	log        *slog.Logger
	now        func() time.Time
}

// CancellerParts are what a Canceller works with.
type CancellerParts struct {
	DB         *store.DB
	Lines      *queue.Lines
	Reconciler *reconcile.Reconciler // brings the units back into the line
	Channels   []string              // each order's news goes to the outbox for each of them
	OnCommit   func()                // called after each commit
	Log        *slog.Logger
	Now        func() time.Time
}

// NewCanceller returns a canceller.
func NewCanceller(p CancellerParts) *Canceller {
	return &Canceller{db: p.DB, lines: p.Lines, reconciler: p.Reconciler, channels: p.Channels, onCommit: p.OnCommit,
		log: p.Log, now: p.Now}
}

const (
	cancelTime = 5 * time.Second // in all
	cancelWait = 3 * time.Second // of it, for a worker to finish with the ticket
	cancelPoll = 20 * time.Millisecond
)

// Cancel ends an unpaid order, in the line or in the database, and gives its units back. Cancelling twice is no
// error. It returns ErrNotFound for an order that is not the user's. It returns ErrNotCancellable when the order is
// paid, has failed or expired. It returns ErrBusy when a worker keeps it for longer than a few seconds.
func (c *Canceller) Cancel(ctx context.Context, sale, id, user string) error {
	ctx, cancel := context.WithTimeout(ctx, cancelTime)
	defer cancel()
	patience := time.After(cancelWait)
	line := c.lines.Of(sale)
	for {
		err := line.Cancel(ctx, id, user)
		switch {
		case errors.Is(err, queue.ErrUnknown):
			err = c.cancelRow(ctx, sale, id, user)
		case errors.Is(err, queue.ErrNotWaiting):
			err = c.cancelRow(ctx, sale, id, user)
			if errors.Is(err, ErrNotFound) {
				err = c.unrecorded(ctx, line, id)
			}
		}
		if !errors.Is(err, queue.ErrBusy) {
			return err
		}
		select {
		case <-time.After(cancelPoll):
		case <-patience:
			return ErrBusy
		case <-ctx.Done():
			return ErrBusy
		}
	}
}

// unrecorded answers for a ticket that has ended in the line and that no worker has recorded yet.
func (c *Canceller) unrecorded(ctx context.Context, line *queue.Line, id string) error {
	tickets, _, err := line.Lookup(ctx, []string{id})
	if err != nil {
		return err
	}
	if tickets[id].State == queue.Cancelled {
		return nil
	}
	return fmt.Errorf("cancel order %s: %w", id, ErrNotCancellable)
}

// cancelRow ends an order that exists in the database. Its slot is free and
// its units are back in the ledger with the commit; the line follows.
func (c *Canceller) cancelRow(ctx context.Context, sale, id, user string) error {
	err := c.db.Tx(ctx, func(tx *gorm.DB) error {
		var row Row
		err := store.ForUpdate(tx).Take(&row, "id = ? AND sale_id = ? AND user_id = ?", id, sale, user).Error
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		switch row.Status {
		case Cancelled:
			return nil
		case Confirmed:
			return c.end(tx, row)
		}
		return ErrNotCancellable
	})
	if err != nil {
		return fmt.Errorf("cancel order %s: %w", id, err)
	}
	killpoint.Pass("cancel.committed")
	c.onCommit()
	if err := c.reconciler.Release(ctx, sale); err != nil {
		c.log.Warn("cancelled units are not yet back in the line: the reconciler brings them", "sale", sale,
			"error", err)
	}
	return nil
}

func (c *Canceller) end(tx *gorm.DB, row Row) error {
	now := c.now()
	changes := map[string]any{"status": Cancelled, "slot": nil, "released": 0, "ended_at": now.UnixMilli(),
		"ended_by": c.lines.InstanceNumber()}
	if err := tx.Model(&Row{}).Where("id = ?", row.ID).Updates(changes).Error; err != nil {
		return err
	}
	if err := notify.Insert(tx, row.News(notify.EventCancelled, c.channels, now)); err != nil {
		return err
	}
	return inventory.Return(tx, row.SaleID, int64(row.Quantity))
}
