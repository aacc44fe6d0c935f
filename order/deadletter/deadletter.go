package order

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
)

// DeadLetters lets operators look at tickets that were given up on, try them
// again or forget them. Every change is in the admin log before it is made.
// Safe for concurrent use.
type DeadLetters struct {
	db    *store.DB
	lines *queue.Lines
	log   *adminlog.Log

	orders *inserter
}

// NewDeadLetters returns the dead letters of all lines.
func NewDeadLetters(db *store.DB, lines *queue.Lines, log *adminlog.Log) *DeadLetters {
	return &DeadLetters{db: db, lines: lines, log: log, orders: newInserter(db)}
}

// letterImage is a dead letter as the admin log shows it.
type letterImage struct {
	State    string     `json:"state"` // dead, queued or dropped
	User     string     `json:"user,omitempty"`
	Quantity int        `json:"quantity,omitempty"`
	Reason   string     `json:"reason,omitempty"` // why it died
	FailedAt *time.Time `json:"failed_at,omitempty"`
}

func imageOf(l queue.DeadLetter) letterImage {
	image := letterImage{State: "dead", User: l.Ticket.User, Quantity: l.Ticket.Units, Reason: l.Ticket.Reason}
	if !l.Ticket.At.IsZero() {
		image.FailedAt = &l.Ticket.At
	}
	return image
}

// Show returns one dead letter, or queue.ErrNotDead.
func (d *DeadLetters) Show(ctx context.Context, sale, id string) (queue.DeadLetter, error) {
	letter, err := d.lines.Of(sale).DeadLetter(ctx, id)
	if err != nil {
		err = fmt.Errorf("order %s: %w", id, err)
	}
	return letter, err
}

// Requeue tries a dead letter again. It needs a unit and its user's slot, and
// returns an invalid.Error for a bad reason and queue.ErrNotDead, ErrUnreadable,
// ErrSoldOut, ErrHeld or ErrNotReady otherwise, having changed nothing. Of two
// operators who requeue one letter, one does and the other gets ErrNotDead.
//
// The failed row stays: the worker that gets the ticket makes the order good,
// and whoever dies in between leaves an order that failed or one that is tried.
func (d *DeadLetters) Requeue(ctx context.Context, sale, id, actor, reason string) error {
	act := adminlog.Act{Actor: actor, Action: "dead.requeue", Sale: sale, Target: id, Reason: reason}
	if err := act.Check(); err != nil {
		return err
	}
	line := d.lines.Of(sale)
	letter, err := line.DeadLetter(ctx, id)
	if err == nil {
		err = letter.Err
	}
	if err != nil {
		return fmt.Errorf("requeue %s: %w", id, err)
	}
	after := imageOf(letter)
	after.State, after.Reason, after.FailedAt = "queued", "", nil
	err = d.log.RecordChange(ctx, act, imageOf(letter), refused, func(ctx context.Context) (any, error) {
		return after, requeue(ctx, line, id)
	})
	if err != nil {
		return fmt.Errorf("requeue %s: %w", id, err)
	}
	return nil
}

// requeue puts a letter back. Where the line's answer was lost, it asks what
// has become of the letter.
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

// rowOf is the row of an order, its zero value when it has none.
func (d *DeadLetters) rowOf(ctx context.Context, sale, id string) (Row, error) {
	var rows []Row
	if err := d.db.Write.WithContext(ctx).Where("id = ? AND sale_id = ?", id, sale).Find(&rows).Error; err != nil {
		return Row{}, fmt.Errorf("read the order of a dead letter: %w", err)
	}
	if len(rows) == 0 {
		return Row{}, nil
	}
	return rows[0], nil
}

// refused reports whether err says that the line has changed nothing.
func refused(err error) bool {
	for _, known := range []error{queue.ErrNotDead, queue.ErrUnreadable, queue.ErrSoldOut, queue.ErrHeld,
		queue.ErrNotReady} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// Drop forgets a dead letter, or returns an invalid.Error for a bad reason or
// queue.ErrNotDead. Its order stays failed; where it has no row, it gets one.
func (d *DeadLetters) Drop(ctx context.Context, sale, id, actor, reason string) error {
	act := adminlog.Act{Actor: actor, Action: "dead.drop", Sale: sale, Target: id, Reason: reason}
	if err := act.Check(); err != nil {
		return err
	}
	line := d.lines.Of(sale)
	letter, err := line.DeadLetter(ctx, id)
	if err == nil {
		after := imageOf(letter)
		after.State = "dropped"
		err = d.log.RecordChange(ctx, act, imageOf(letter), refused, func(ctx context.Context) (any, error) {
			if err := d.recordFailed(ctx, sale, letter); err != nil {
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

// recordFailed writes the row of a letter that has none: with the letter its
// last trace would go.
func (d *DeadLetters) recordFailed(ctx context.Context, sale string, letter queue.DeadLetter) error {
	t := letter.Ticket
	if letter.Err != nil {
		return nil
	}
	row, err := d.rowOf(ctx, sale, t.ID)
	if err != nil || row.ID != "" {
		return err
	}
	return d.db.Tx(ctx, func(tx *gorm.DB) error {
		var of inventory.Sale
		if err := tx.Take(&of, "id = ?", sale).Error; err != nil {
			return fmt.Errorf("read sale %s: %w", sale, err)
		}
		failed := ticketRow(of, of.Epoch, &t)
		failed.end(Failed, t.Reason, msOf(t.At))
		_, err := d.orders.insert(tx, []Row{failed})
		return err
	})
}
