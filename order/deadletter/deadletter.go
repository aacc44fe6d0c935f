// Package deadletter lets operators look at tickets that were given up on, try them again or forget them.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

// Admin changes dead letters for operators. Every change is in the admin log before it is made. Safe for concurrent
// use.
type Admin struct {
	db     *store.DB
	lines  *queue.Lines
	log    *adminlog.Log
	orders *order.Inserter
}

// NewAdmin returns the admin of the dead letters of all lines.
func NewAdmin(db *store.DB, lines *queue.Lines, log *adminlog.Log) *Admin {
	return &Admin{db: db, lines: lines, log: log, orders: order.NewInserter(db)}
}

// image is a dead letter as the admin log shows it.
type image struct {
	State    string     `json:"state"` // dead, queued or dropped
	User     string     `json:"user,omitempty"`
	Quantity int        `json:"quantity,omitempty"`
	Reason   string     `json:"reason,omitempty"` // why it died
	FailedAt *time.Time `json:"failed_at,omitempty"`
}

func imageOf(l queue.DeadLetter) image {
	i := image{State: "dead", User: l.Ticket.User, Quantity: l.Ticket.Units, Reason: l.Ticket.Reason}
	if !l.Ticket.At.IsZero() {
		i.FailedAt = &l.Ticket.At
	}
	return i
}

// Show returns one dead letter, or queue.ErrNotDead.
func (a *Admin) Show(ctx context.Context, sale, id string) (queue.DeadLetter, error) {
	letter, err := a.lines.Of(sale).DeadLetter(ctx, id)
	if err != nil {
		err = fmt.Errorf("order %s: %w", id, err)
	}
	return letter, err
}

// Requeue tries a dead letter again, which needs a unit and its user's slot. Of two operators who requeue one letter,
// one does and the other gets queue.ErrNotDead.
//
// It returns an invalid.Error for a bad reason. When it has changed nothing it returns queue.ErrNotDead,
// ErrUnreadable, ErrSoldOut, ErrHeld or ErrNotReady.
//
// The failed row stays: the worker that gets the ticket makes the order good. Whoever dies in between leaves an order
// that failed or one that is tried.
func (a *Admin) Requeue(ctx context.Context, sale, id, actor, reason string) error {
	act := adminlog.Act{Actor: actor, Action: "dead.requeue", Sale: sale, Target: id, Reason: reason}
	if err := act.Check(); err != nil {
		return err
	}
	line := a.lines.Of(sale)
	letter, err := line.DeadLetter(ctx, id)
	if err == nil {
		err = letter.Err
	}
	if err != nil {
		return fmt.Errorf("requeue %s: %w", id, err)
	}
	after := imageOf(letter)
	after.State, after.Reason, after.FailedAt = "queued", "", nil
	err = a.log.RecordChange(ctx, act, imageOf(letter), refused, func(ctx context.Context) (any, error) {
		return after, requeue(ctx, line, id)
	})
	if err != nil {
		return fmt.Errorf("requeue %s: %w", id, err)
	}
	return nil
}

// requeue puts a letter back. Where the line's answer was lost, it asks what has become of the letter.
func requeue(ctx context.Context, line *queue.Line, id string) error {
	err := line.Requeue(ctx, id)
	if err == nil || refused(err) {
		return err
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), requeueLook)
	defer cancel()
	if done, unknown := line.Requeued(look, id); unknown == nil && done {
		return nil
	}
	return err
}

// requeueLook bounds the look at a letter after an answer was lost.
const requeueLook = 2 * time.Second

// hasRow reports whether an order is in the database.
func (a *Admin) hasRow(ctx context.Context, sale, id string) (bool, error) {
	var rows []order.Row
	if err := a.db.Write.WithContext(ctx).Where("id = ? AND sale_id = ?", id, sale).Find(&rows).Error; err != nil {
		return false, fmt.Errorf("read the order of a dead letter: %w", err)
	}
	return len(rows) > 0, nil
}

// refused reports whether err says that the line has changed nothing.
func refused(err error) bool {
	refusals := []error{queue.ErrNotDead, queue.ErrUnreadable, queue.ErrSoldOut, queue.ErrHeld, queue.ErrNotReady}
	return slices.ContainsFunc(refusals, func(one error) bool { return errors.Is(err, one) })
}

// Drop forgets a dead letter, or returns an invalid.Error for a bad reason or queue.ErrNotDead. Its order stays
// failed; where it has no row, it gets one.
func (a *Admin) Drop(ctx context.Context, sale, id, actor, reason string) error {
	act := adminlog.Act{Actor: actor, Action: "dead.drop", Sale: sale, Target: id, Reason: reason}
	if err := act.Check(); err != nil {
		return err
	}
	line := a.lines.Of(sale)
	letter, err := line.DeadLetter(ctx, id)
	if err == nil {
		after := imageOf(letter)
		after.State = "dropped"
		err = a.log.RecordChange(ctx, act, imageOf(letter), refused, func(ctx context.Context) (any, error) {
			if err := a.recordFailed(ctx, sale, letter); err != nil {
				return nil, err
			}
			return after, line.DropDead(ctx, id)
		})
	}
	if err != nil {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	return nil
}

// recordFailed writes the row of a letter that has none: with the letter its last trace would go.
func (a *Admin) recordFailed(ctx context.Context, sale string, letter queue.DeadLetter) error {
	t := letter.Ticket
	if letter.Err != nil {
		return nil
	}
	has, err := a.hasRow(ctx, sale, t.ID)
	if err != nil || has {
		return err
	}
	return a.db.Tx(ctx, func(tx *gorm.DB) error {
		var of inventory.Sale
		if err := tx.Take(&of, "id = ?", sale).Error; err != nil {
			return fmt.Errorf("read sale %s: %w", sale, err)
		}
		failed := order.NewRow(of, of.Epoch, &t)
		failed.End(order.Failed, t.Reason, order.Millis(t.At))
		_, err := a.orders.Insert(tx, []order.Row{failed})
		return err
	})
}
