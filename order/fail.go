package order

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// Bury implements queue.Handler. It records tickets as failed unless their
// orders exist. Nothing is buried that is not recorded: with the error, of a
// row that cannot be written, come the outcomes of those before it.
func (f *Fulfiller) Bury(ctx context.Context, b queue.Batch, reason string) ([]queue.Outcome, error) {
	sale, err := f.sale(ctx, b.Sale)
	if err != nil {
		return nil, faultOf(err)
	}
	outcomes := make([]queue.Outcome, 0, len(b.Tickets))
	for _, t := range b.Tickets {
		one, err := f.fail(ctx, sale, b.Epoch, t, ReasonGaveUp, queue.OpDead)
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

func (f *Fulfiller) failedRow(sale inventory.Sale, epoch int64, t queue.Ticket, reason, tag string) Row {
	r := f.row(sale, epoch, t, tag)
	if t.State == queue.Queued {
		r.Slot, r.Status, r.Reason, r.ConfirmedAt, r.PayBy, r.EndedAt = nil, Failed, reason, 0, 0, f.now().UnixMilli()
	}
	return r
}

// fail records one ticket as failed, unless its order exists after all. Where
// the row's own data is refused, it is recorded with less of it, so that its
// owner and the audit find a row. The error says that not even that was taken:
// the ticket goes back.
func (f *Fulfiller) fail(
	ctx context.Context, sale inventory.Sale, epoch int64, t queue.Ticket, reason string, op queue.Op,
) (queue.Outcome, error) {
	outcome := queue.Outcome{ID: t.ID, Op: op, Reason: reason}
	if t.State != queue.Queued {
		outcome = queue.Outcome{ID: t.ID, Op: queue.OpClose}
	}
	row := f.failedRow(sale, epoch, t, reason, "")
	earlier, err := f.record(ctx, t, row)
	for _, lessen := range lessened() {
		if err == nil || !store.RowFault(err) {
			break
		}
		lessen(&row)
		f.log.Warn("failed ticket is recorded with less of its data",
			"sale", sale.ID, "order", t.ID, "refused", store.Code(err))
		earlier, err = f.record(ctx, t, row)
	}
	if err != nil {
		return outcome, fmt.Errorf("record ticket %s as failed: %w", t.ID, err)
	}
	f.told()
	if earlier != nil {
		return known(t, *earlier), nil
	}
	return outcome, nil
}

// record writes the row of a ticket that did not become an order, and its news,
// or returns the row that an earlier delivery has left.
func (f *Fulfiller) record(ctx context.Context, t queue.Ticket, row Row) (earlier *Row, err error) {
	event := notify.EventFailed
	if t.State != queue.Queued {
		event = endingOf(t)
	}
	t.User = row.UserID
	err = f.db.Tx(ctx, func(tx *gorm.DB) error {
		// The tag is new on every run: a row of a run whose commit reply was lost is an earlier one.
		row.BatchID, earlier = newTag(f.now(), f.instance), nil
		stored := map[string]Row{}
		if err := f.insert(tx, []Row{row}, stored); err != nil {
			return err
		}
		found, ok := stored[t.ID]
		switch {
		case !ok:
			return fmt.Errorf("the row of %s was neither written nor there", t.ID)
		case found.BatchID != row.BatchID:
			earlier = &found
			return nil
		}
		return notify.Insert(tx, newsOf(t, row.SaleID, event, f.channels, f.now()))
	})
	return earlier, err
}

// lessened are the steps by which a row loses what its database may refuse, the
// dearest last: contact, language, what only answers a repeated request, and at
// last its owner's name.
func lessened() []func(*Row) {
	return []func(*Row){
		func(r *Row) { r.Email, r.Phone = "", "" },
		func(r *Row) { r.Locale = "" },
		func(r *Row) { r.Fingerprint, r.Position, r.ETASeconds, r.Reason = "", 0, 0, ReasonGaveUp },
		func(r *Row) { r.UserID = standIn(r.UserID) },
	}
}

// standIn is a name for a user whose own no row can hold; the same user always
// has the same. No token can carry it, since it begins with a space.
func standIn(user string) string {
	sum := sha256.Sum256([]byte(user))
	return " sha256:" + hex.EncodeToString(sum[:])
}
