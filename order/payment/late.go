package payment

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

// payLate takes a payment for an order that has expired. Its units have gone back to both stores, so they are taken
// again as for every order. First they are taken in the line, as a ticket in a leased batch of its own. Then they are
// taken in the ledger, together with the payment. Then the batch is settled.
//
// Whoever dies in between leaves a lease, and a worker settles by what the database says. Who merely stands still for
// longer than the lease finds the order's fence raised by that worker, and takes nothing.
func (p *Payer) payLate(ctx context.Context, saleID, id string, payment Payment) (recorded, error) {
	sale, _, err := p.sales.Get(ctx, saleID)
	if err != nil {
		return recorded{}, err
	}
	row, err := p.expired(ctx, saleID, id)
	if err != nil {
		return recorded{}, err
	}
	line := p.lines.Of(saleID)
	leased, cancel := context.WithTimeout(ctx, p.lease*3/4)
	defer cancel()
	reclaimed, err := p.reclaim(leased, line, sale, row)
	switch {
	case errors.Is(err, queue.ErrSoldOut), errors.Is(err, queue.ErrHeld),
		errors.Is(err, queue.ErrNotReady) && p.dropped(ctx, line, sale):
		return p.record(ctx, saleID, id, payment, payTooLate)
	case errors.Is(err, queue.ErrBusy), errors.Is(err, queue.ErrNotWaiting):
		return recorded{}, order.ErrBusy
	case err != nil:
		return recorded{}, err
	}
	killpoint.Pass("late.reserved")
	done, err := p.record(leased, saleID, id, payment, payAgain(reclaimed, row.Fence))
	killpoint.Pass("late.committed")
	if err != nil {
		done.row, done.change = row, 0 // what a transaction that was rolled back made of it does not count
	}
	p.settle(line, reclaimed, done, err)
	killpoint.Pass("late.settled")
	switch {
	case noneLeft(err):
		return p.record(ctx, saleID, id, payment, payTooLate)
	// The rebuild has the ticket, and a worker gives its units back.
	case errors.Is(err, inventory.ErrStale), errors.Is(err, inventory.ErrBehind):
		return recorded{}, order.ErrBusy
	}
	return done, err
}

// expired reads the order anew. By now somebody else may have paid it, which the transaction finds out.
func (p *Payer) expired(ctx context.Context, sale, id string) (order.Row, error) {
	var row order.Row
	err := p.db.Read.WithContext(ctx).Take(&row, "id = ? AND sale_id = ?", id, sale).Error
	return row, err
}

// reclaim takes the units in the line. An expiry that has not reached the line yet is brought there first.
func (p *Payer) reclaim(ctx context.Context, line *queue.Line, sale inventory.Sale,
	row order.Row) (queue.ReclaimedUnit, error) {
	if row.Status == order.Expired && row.Released == 0 {
		if err := line.Release(ctx, []queue.Ended{{ID: row.ID, State: queue.Expired}}, 0); err != nil {
			return queue.ReclaimedUnit{}, err
		}
	}
	killpoint.Pass("late.released")
	ticket := queue.Ticket{ID: row.ID, User: row.UserID, Units: row.Quantity, Seq: row.Seq,
		AdmittedAt: order.Time(row.AdmittedAt), Fingerprint: row.Fingerprint, Position: row.Position,
		ETASeconds: row.ETASeconds}
	return line.ReclaimUnit(ctx, sale.Epoch, uuid.NewString(), p.lease, ticket)
}

// dropped reports whether the sale was over so long ago that it has no line any more. Nothing can be taken again then.
func (p *Payer) dropped(ctx context.Context, line *queue.Line, sale inventory.Sale) bool {
	view, err := line.View(ctx)
	return err == nil && !view.Exists && sale.Finished(p.now())
}

// payTooLate decides on an expired order for which nothing is left.
func payTooLate(row order.Row, now time.Time) (decision, error) {
	if row.Status == order.Expired {
		return decision{outcome: order.PaymentRefund}, nil
	}
	return payInTime(row, now)
}

// payAgain decides on an expired order whose units the line has taken again; fence is what it was before that.
func payAgain(r queue.ReclaimedUnit, fence int64) func(order.Row, time.Time) (decision, error) {
	return func(row order.Row, now time.Time) (decision, error) {
		if row.Status != order.Expired {
			return payInTime(row, now)
		}
		if row.Fence != fence { // a worker gives the units back
			return decision{}, order.ErrBusy
		}
		// Released: the line has had the units back, or it would not have given them.
		changes := map[string]any{"status": order.Paid, "paid_at": now.UnixMilli(), "ended_at": 0, "ended_by": 0,
			"slot": r.Slot, "released": 1, "epoch": r.Batch.Epoch, "late_seq": r.Mark}
		return decision{outcome: order.PaymentLate, changes: changes, reclaimed: &r}, nil
	}
}

// takeAgain takes the units out of the ledger, unless the user would hold more than the limit. Redis may have
// forgotten an order.
func takeAgain(tx *gorm.DB, row order.Row, r queue.ReclaimedUnit) (change int64, err error) {
	killpoint.Pass("late.before-commit")
	taking := inventory.Taking{Sale: row.SaleID, Epoch: r.Batch.Epoch, Units: int64(row.Quantity),
		Known: r.Batch.Ledger}
	if change, err = inventory.Take(tx, taking); err != nil {
		return 0, err
	}
	return change, order.CheckLimit(tx, row.SaleID, []string{row.UserID})
}

// noneLeft reports that the ledger refused what the line had given. It would refuse it however often it is tried.
func noneLeft(err error) bool {
	return errors.Is(err, inventory.ErrShort) || errors.Is(err, order.ErrOverLimit) || store.Duplicate(err)
}

// settle ends the batch of a late payment by what the database holds. Where that is not known, a worker looks again.
func (p *Payer) settle(line *queue.Line, r queue.ReclaimedUnit, done recorded, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), showWait)
	defer cancel()
	row := done.row
	outcome := row.Outcome(r.Batch.Tickets[0])
	outcome.Ledger = done.change
	if err != nil && !noneLeft(err) && !errors.Is(err, ErrConflict) {
		outcome = queue.Outcome{ID: row.ID, Op: queue.OpBack}
	}
	if err := line.Settle(ctx, r.Batch, []queue.Outcome{outcome}); err != nil {
		p.log.Warn("a late payment is not settled in the line: a worker does it", "sale", line.Sale(), "order", row.ID,
			"error", err)
	}
}
