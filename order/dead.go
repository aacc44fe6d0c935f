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
// again or forget them. Safe for concurrent use.
type DeadLetters struct {
	db    *store.DB
	lines *queue.Lines
	now   func() time.Time
}

// NewDeadLetters returns the dead letters of all lines.
func NewDeadLetters(db *store.DB, lines *queue.Lines, now func() time.Time) *DeadLetters {
	return &DeadLetters{db: db, lines: lines, now: now}
}

// List returns up to n dead letters of a sale, newest first, after skipping some.
func (d *DeadLetters) List(ctx context.Context, sale string, skip, n int64) ([]queue.DeadLetter, error) {
	return d.lines.Of(sale).DeadLetters(ctx, skip, n)
}

// Show returns one dead letter, or queue.ErrNotDead.
func (d *DeadLetters) Show(ctx context.Context, sale, id string) (queue.DeadLetter, error) {
	return d.lines.Of(sale).DeadLetter(ctx, id)
}

// Requeue tries a dead letter again. It needs a unit and its user's slot, and
// returns queue.ErrNotDead, ErrUnreadable, ErrSoldOut, ErrHeld or ErrNotReady
// otherwise, having changed nothing.
//
// The row that says the order failed is removed first, since a worker takes an
// order that has a row for done. Should the line refuse, or this process die
// in between, the letter is still there and may be requeued again.
func (d *DeadLetters) Requeue(ctx context.Context, sale, id, actor, reason string) error {
	line := d.lines.Of(sale)
	letter, err := line.DeadLetter(ctx, id)
	if err == nil {
		err = letter.Err
	}
	if err != nil {
		return fmt.Errorf("requeue %s: %w", id, err)
	}
	row, err := d.forget(ctx, sale, id, actor, reason)
	if err != nil {
		return fmt.Errorf("requeue %s: %w", id, err)
	}
	err = line.Requeue(ctx, id, row.Email, row.Phone, row.Locale)
	if err == nil || row.ID == "" {
		return err
	}
	return errors.Join(err, d.restore(ctx, row))
}

// forget removes the row of a failed order and returns it; its zero value
// when there was none.
func (d *DeadLetters) forget(ctx context.Context, sale, id, actor, reason string) (Row, error) {
	var row Row
	err := d.db.Tx(ctx, func(tx *gorm.DB) error {
		row = Row{}
		err := store.ForUpdate(tx).Take(&row, "id = ? AND sale_id = ?", id, sale).Error
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return inventory.Log(tx, d.now(), actor, "dead.requeue", id, reason, nil, nil)
		}
		if err != nil {
			return err
		}
		if row.Status != Failed {
			return fmt.Errorf("its order is %s: %w", row.Status, queue.ErrNotDead)
		}
		if err := tx.Delete(&Row{}, "id = ? AND status = ?", id, Failed).Error; err != nil {
			return err
		}
		return inventory.Log(tx, d.now(), actor, "dead.requeue", id, reason, row.Reason, nil)
	})
	return row, err
}

func (d *DeadLetters) restore(ctx context.Context, row Row) error {
	return d.db.Tx(ctx, func(tx *gorm.DB) error { return store.InsertIgnore(tx).Create(&row).Error })
}

// Drop forgets a dead letter, or returns queue.ErrNotDead. Its order stays failed.
func (d *DeadLetters) Drop(ctx context.Context, sale, id, actor, reason string) error {
	if err := d.lines.Of(sale).DropDead(ctx, id); err != nil {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	return d.db.Tx(ctx, func(tx *gorm.DB) error {
		return inventory.Log(tx, d.now(), actor, "dead.drop", id, reason, nil, nil)
	})
}
