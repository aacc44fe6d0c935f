package order

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

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
	log   *inventory.AdminLog
}

// NewDeadLetters returns the dead letters of all lines.
func NewDeadLetters(db *store.DB, lines *queue.Lines, log *inventory.AdminLog) *DeadLetters {
	return &DeadLetters{db: db, lines: lines, log: log}
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
// returns an InvalidError for a bad reason and queue.ErrNotDead, ErrUnreadable,
// ErrSoldOut, ErrHeld or ErrNotReady otherwise, having changed nothing.
//
// The row that says the order failed is removed first, since a worker takes an
// order that has a row for done. Should the line refuse, or this process die
// in between, the letter is still there and may be requeued again.
func (d *DeadLetters) Requeue(ctx context.Context, sale, id, actor, reason string) error {
	act := inventory.Act{Actor: actor, Action: "dead.requeue", Sale: sale, Target: id, Reason: reason}
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
	row, entry, err := d.forget(ctx, act, letter)
	if err != nil {
		return fmt.Errorf("requeue %s: %w", id, err)
	}
	err = line.Requeue(ctx, id, row.Email, row.Phone, row.Locale, row.AdmittedBy)
	if err == nil {
		after := imageOf(letter)
		after.State, after.Reason, after.FailedAt = "queued", "", nil
		d.log.Finish(ctx, entry, after)
		return nil
	}
	return errors.Join(err, d.restore(context.WithoutCancel(ctx), row, entry, refused(err)))
}

// refused reports whether err says that the line has changed nothing.
func refused(err error) bool {
	for _, known := range []error{queue.ErrNotDead, queue.ErrUnreadable, queue.ErrSoldOut, queue.ErrHeld, queue.ErrNotReady} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// forget removes the row of a failed order and returns it, its zero value when
// there was none, and the entry of the admin log that says so.
func (d *DeadLetters) forget(ctx context.Context, act inventory.Act, letter queue.DeadLetter) (row Row, entry int64, err error) {
	err = d.db.Tx(ctx, func(tx *gorm.DB) error {
		row = Row{}
		err := store.ForUpdate(tx).Take(&row, "id = ? AND sale_id = ?", act.Target, act.Sale).Error
		switch {
		case errors.Is(err, gorm.ErrRecordNotFound):
			row = Row{}
		case err != nil:
			return err
		case row.Status != Failed:
			return fmt.Errorf("its order is %s: %w", row.Status, queue.ErrNotDead)
		default:
			if err := tx.Delete(&Row{}, "id = ? AND status = ?", act.Target, Failed).Error; err != nil {
				return err
			}
		}
		entry, err = d.log.Begin(tx, act, imageOf(letter))
		return err
	})
	return row, entry, err
}

// restore brings the row of a failed order back, and takes the entry back when nothing has come of it.
func (d *DeadLetters) restore(ctx context.Context, row Row, entry int64, nothing bool) error {
	return d.db.Tx(ctx, func(tx *gorm.DB) error {
		if row.ID != "" {
			if err := store.InsertIgnore(tx).Create(&row).Error; err != nil {
				return err
			}
		}
		if nothing {
			return d.log.TakeBack(tx, entry)
		}
		return nil
	})
}

// Drop forgets a dead letter, or returns an InvalidError for a bad reason or
// queue.ErrNotDead. Its order stays failed.
func (d *DeadLetters) Drop(ctx context.Context, sale, id, actor, reason string) error {
	act := inventory.Act{Actor: actor, Action: "dead.drop", Sale: sale, Target: id, Reason: reason}
	if err := act.Check(); err != nil {
		return err
	}
	letter, err := d.lines.Of(sale).DeadLetter(ctx, id)
	if err == nil {
		after := imageOf(letter)
		after.State = "dropped"
		err = d.log.Noted(ctx, act, imageOf(letter), refused, func(ctx context.Context) (any, error) { return after, d.lines.Of(sale).DropDead(ctx, id) })
	}
	if err != nil {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	return nil
}
