package order

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/store"
)

// Bury implements worker.Handler. It records tickets as failed unless their orders exist. Nothing is buried that is not
// recorded. With the error of a row that cannot be written come the outcomes of those before it.
func (f *Fulfiller) Bury(ctx context.Context, b queue.Batch, reason string) ([]queue.Outcome, error) {
	sale, err := f.sale(ctx, b.Sale)
	if err != nil {
		return nil, faultOf(err)
	}
	c := claimOf(sale, b)
	outcomes := make([]queue.Outcome, 0, len(b.Tickets))
	for _, t := range b.Tickets {
		one, err := f.fail(ctx, c, t, ReasonGaveUp, queue.OpDead)
		if err != nil {
			return outcomes, faultOf(err)
		}
		if one.Op == queue.OpDead {
			f.log.Error("ticket dead-lettered", "sale", b.Sale, "order", t.ID, "reason", reason)
		}
		outcomes = append(outcomes, one)
	}
	return outcomes, nil
}

// fail records one ticket as failed, unless its order exists after all. Where the row's own data is refused, it is
// recorded with less of it. Its owner and the audit find a row. The error says that not even that was taken, and the
// ticket goes back.
func (f *Fulfiller) fail(ctx context.Context, c claim, t queue.Ticket, reason string, op queue.Op) (queue.Outcome,
	error) {
	outcome := queue.Outcome{ID: t.ID, Op: op, Reason: reason}
	if t.State != queue.Queued {
		outcome = queue.Outcome{ID: t.ID, Op: queue.OpClose}
	}
	row := c.failedRow(&t, reason, f.newStamp())
	earlier, change, err := f.record(ctx, c, t, row)
	for _, reduce := range Reductions() {
		if err == nil || !store.RowFault(err) {
			break
		}
		reduce(&row)
		f.log.Warn("failed ticket is recorded with less of its data",
			"sale", c.sale.ID, "order", t.ID, "refused", store.Code(err))
		earlier, change, err = f.record(ctx, c, t, row)
	}
	if err != nil {
		return outcome, fmt.Errorf("record ticket %s as failed: %w", t.ID, err)
	}
	f.onCommit()
	if earlier != nil {
		outcome = earlier.Outcome(t)
	}
	outcome.Ledger = change
	return outcome, nil
}

// record writes the row of a ticket that did not become an order, and its news. Where an earlier delivery has left a
// row it returns that one instead. When it ended that row's order it returns the change of the ledger too.
func (f *Fulfiller) record(ctx context.Context, c claim, t queue.Ticket, row Row) (earlier *Row, change int64,
	err error) {
	event := notify.EventFailed
	if t.State != queue.Queued {
		event = endingOf(t)
	}
	err = f.db.Tx(ctx, func(tx *gorm.DB) error {
		r := f.begin(tx, c)
		row.BatchID, earlier, change = r.tag, nil, 0
		stored := map[string]Row{}
		if err := r.insert([]Row{row}, stored); err != nil {
			return err
		}
		found, ok := stored[t.ID]
		switch {
		case !ok:
			return fmt.Errorf("the row of %s was neither written nor there", t.ID)
		case found.BatchID != row.BatchID:
			earlier, change, err = r.amend(t, row.Reason)
			return err
		}
		return notify.Insert(tx, row.News(event, f.channels, r.now))
	})
	return earlier, change, err
}

// amend brings the row that an earlier delivery has left to what became of its ticket. It locks the row first: a worker
// that came late may make an order of it just now. It returns no row where the ticket has died once more.
func (r *run) amend(t queue.Ticket, reason string) (earlier *Row, change int64, err error) {
	locked, err := lockRows(r.tx, []string{t.ID})
	if err != nil {
		return nil, 0, err
	}
	if len(locked) == 0 {
		return nil, 0, fmt.Errorf("the row of %s has gone", t.ID)
	}
	found := locked[0]
	switch {
	case found.diedBefore(t):
		return nil, 0, r.diedAgain(found, t, reason)
	case found.Contradicts(t):
		change, err = r.endUndone([]queue.Ticket{t})
	}
	return &found, change, err
}

// Reductions returns the steps by which a row loses what its database may refuse, the dearest last. First go contact
// and language, then what only answers a repeated request, at last its owner's name.
func Reductions() []func(*Row) {
	return []func(*Row){
		func(r *Row) { r.Email, r.Phone = "", "" },
		func(r *Row) { r.Locale = "" },
		func(r *Row) { r.Fingerprint, r.Position, r.ETASeconds, r.Reason = "", 0, 0, ReasonGaveUp },
		func(r *Row) { r.UserID = standIn(r.UserID) },
	}
}

// standIn returns a name for a user whose own no row can hold: always the same for one user. No token can carry it,
// since it begins with a space.
func standIn(user string) string {
	sum := sha256.Sum256([]byte(user))
	return " sha256:" + hex.EncodeToString(sum[:])
}

// storeFault is an error of a batch that no ticket has caused.
type storeFault struct{ error }

// Unwrap returns the error itself.
func (f storeFault) Unwrap() error { return f.error }

// Is makes a sale without a row a fault of its line, and of no other.
func (f storeFault) Is(target error) bool {
	return target == worker.ErrOfLine && errors.Is(f.error, inventory.ErrNoSale)
}

// Cause implements worker.Causer: it says what the database said, without a row's values.
func (f storeFault) Cause() string { return store.Describe(f.error) }

// faultOf marks err, unless it is nil, as one that no ticket has caused. That the line was loaded anew is no store's
// fault.
func faultOf(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, inventory.ErrStale) {
		err = fmt.Errorf("%w: %w", queue.ErrOutdated, err)
	}
	return storeFault{err}
}
