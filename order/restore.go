package order

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// Restorer puts orders back into a ledger that has lost them, from the line's records. Those know neither contact nor
// language. Safe for concurrent use, and by several processes at once.
type Restorer struct {
	db       *store.DB
	channels []string
	now      func() time.Time
	instance string
	orders   *inserter
}

// NewRestorer returns a restorer that queues the news of what it does for every channel.
func NewRestorer(db *store.DB, channels []string, now func() time.Time, instance string) *Restorer {
	return &Restorer{db: db, channels: channels, now: now, instance: instance, orders: newInserter(db)}
}

// Restore implements inventory.Restorer: all orders in one transaction, or, where they do not fit as a whole, one after
// the other. Those for which no unit or slot is left are recorded as failed, and their owners told.
func (r *Restorer) Restore(ctx context.Context, all inventory.Restoration) (inventory.Restored, error) {
	done, err := r.transact(ctx, all)
	if !apartOnly(err) {
		return done, err
	}
	var sum inventory.Restored
	for _, t := range all.Told {
		one := all
		one.Told = []queue.Ticket{t}
		done, err := r.transact(ctx, one)
		// An order that exists went in once: what refuses its data now is the database's, and the rebuild begins anew.
		if errors.Is(err, inventory.ErrShort) || store.RowFault(err) && !sold(t) {
			done, err = inventory.Restored{Refused: 1}, r.refuse(ctx, all.Sale, t)
		}
		if err != nil {
			return sum, err
		}
		sum.Orders, sum.Refused = sum.Orders+done.Orders, sum.Refused+done.Refused
	}
	return sum, nil
}

func sold(t queue.Ticket) bool { return t.State == queue.Confirmed || t.State == queue.Paid }

// apartOnly reports an error that may be one order's alone: its units are gone, or the database refuses its data.
func apartOnly(err error) bool { return errors.Is(err, inventory.ErrShort) || store.RowFault(err) }

// repair is one transaction's work.
type repair struct {
	*Restorer
	tx    *gorm.DB
	sale  inventory.Sale
	tag   string
	done  inventory.Restored
	taken int64 // units of orders that are live again
	back  int64 // units of orders that had ended after all
	news  []notify.Row
}

func (r *Restorer) transact(ctx context.Context, all inventory.Restoration) (done inventory.Restored, err error) {
	err = r.db.Tx(ctx, func(tx *gorm.DB) error {
		w := &repair{Restorer: r, tx: tx, sale: all.Sale, tag: newTag(r.now(), r.instance)}
		if err := w.run(all); err != nil {
			return err
		}
		done = w.done
		return nil
	})
	if err != nil {
		return inventory.Restored{}, fmt.Errorf("restore %d orders of %s: %w", len(all.Told), all.Sale.ID, err)
	}
	return done, nil
}

func (w *repair) run(all inventory.Restoration) error {
	stored, err := w.stored(all.Told)
	if err != nil {
		return err
	}
	var missing []queue.Ticket
	for _, t := range all.Told {
		row, known := stored[t.ID]
		switch {
		case !known:
			missing = append(missing, t)
		case resumable(row, t):
			if err := w.resume(row, t); err != nil {
				return err
			}
		case all.Behind, contradicts(row, t):
			if err := w.correct(row, t); err != nil {
				return err
			}
		}
	}
	if err := w.insert(missing); err != nil {
		return err
	}
	if err := notify.Insert(w.tx, w.news); err != nil {
		return err
	}
	return w.move()
}

// move changes the stock, last: its row is hot.
func (w *repair) move() error {
	if w.back > 0 {
		back := inventory.Taking{Sale: w.sale.ID, Epoch: w.sale.Epoch, Units: w.back}
		if _, err := inventory.GiveBack(w.tx, back); err != nil {
			return err
		}
	}
	if w.taken == 0 {
		return nil
	}
	_, err := inventory.Take(w.tx, inventory.Taking{Sale: w.sale.ID, Epoch: w.sale.Epoch, Units: w.taken})
	return err
}

// stored are the rows of the orders that have one.
func (w *repair) stored(told []queue.Ticket) (map[string]Row, error) {
	ids := make([]string, len(told))
	for i, t := range told {
		ids[i] = t.ID
	}
	slices.Sort(ids)
	var rows []Row
	if err := store.ForUpdate(w.tx).Where("id IN ?", ids).Order("id").Find(&rows).Error; err != nil {
		return nil, err
	}
	stored := make(map[string]Row, len(rows))
	for _, row := range rows {
		stored[row.ID] = row
	}
	return stored, nil
}

// insert adds rows for orders that have none. Where somebody else has the slot by now the order is recorded as failed.
func (w *repair) insert(told []queue.Ticket) error {
	if len(told) == 0 {
		return nil
	}
	rows := make([]Row, len(told))
	for i, t := range told {
		rows[i] = w.row(t)
	}
	if _, err := w.orders.insert(w.tx, sortByID(rows)); err != nil {
		return err
	}
	stored, err := w.stored(told)
	if err != nil {
		return err
	}
	for _, t := range told {
		row, known := stored[t.ID]
		switch {
		case !known:
			if err := w.fail(t, 0); err != nil {
				return err
			}
		case row.BatchID != w.tag: // somebody else was faster
		default:
			w.tell(t)
			w.done.Orders++
			if row.Slot != nil {
				w.taken += int64(row.Quantity)
			}
		}
	}
	return nil
}

// fail records an order that cannot be put back, without what the first so many steps of lessened take.
func (w *repair) fail(t queue.Ticket, less int) error {
	if sold(t) {
		t.State, t.Reason, t.At = queue.Failed, queue.ReasonLost, w.now()
	}
	row := w.row(t)
	for _, lessen := range lessened()[:less] {
		lessen(&row)
	}
	if _, err := w.orders.insert(w.tx, []Row{row}); err != nil {
		return err
	}
	t.User = row.UserID
	w.tell(t)
	w.done.Refused++
	return nil
}

// refuse is fail in a transaction of its own. Where the row's own data is refused, it is written with less of it.
func (r *Restorer) refuse(ctx context.Context, sale inventory.Sale, t queue.Ticket) error {
	for less := 0; ; less++ {
		err := r.db.Tx(ctx, func(tx *gorm.DB) error {
			w := &repair{Restorer: r, tx: tx, sale: sale, tag: newTag(r.now(), r.instance)}
			if err := w.fail(t, less); err != nil {
				return err
			}
			return notify.Insert(tx, w.news)
		})
		if err == nil || !store.RowFault(err) || less == len(lessened()) {
			return err
		}
	}
}

// correct brings an order to the state that its owner was told: paid, or ended. Its units are back in the line already.
func (w *repair) correct(row Row, t queue.Ticket) error {
	changes := map[string]any{}
	switch {
	case row.Status == Confirmed && t.State == queue.Paid:
		changes["status"], changes["paid_at"] = Paid, t.PaidAt.UnixMilli()
	case contradicts(row, t) && row.Slot == nil: // it had failed or expired before
		changes["status"], changes["reason"], changes["ended_at"] = Cancelled, "", t.At.UnixMilli()
		changes["ended_by"] = t.EndedBy
	case row.Status == Confirmed && (t.State == queue.Cancelled || t.State == queue.Expired), row.Status == Paid &&
		t.State == queue.Cancelled:
		changes["status"], changes["slot"], changes["ended_at"], changes["released"] = statusOf(t.State), nil,
			t.At.UnixMilli(), 1
		w.back += int64(row.Quantity)
		changes["ended_by"] = t.EndedBy
		if row.Status == Paid { // after it was cancelled: see Fulfiller.endUndone
			t.Refund = true
			if err := refundPayment(w.tx, row.ID); err != nil {
				return err
			}
		}
	}
	if len(changes) > 0 {
		w.tell(t)
	}
	if t.Refund && row.Refund == "" {
		changes["refund"] = refundLost(t)
		w.tellRefund(t)
	}
	if len(changes) == 0 {
		return nil
	}
	w.done.Orders++
	return w.tx.Model(&Row{}).Where("id = ?", row.ID).Updates(changes).Error
}

// resumable reports that an order of the line has a row that says less. What was confirmed never fails: a worker that
// came late wrote it, after the database had lost the order. What was paid never expires: it was paid late, which the
// database has lost.
func resumable(row Row, t queue.Ticket) bool {
	return row.Status == Failed && sold(t) || row.Status == Expired && t.State == queue.Paid
}

// resume makes an order of such a row. Where somebody else has the slot by now it stays as it is.
func (w *repair) resume(row Row, t queue.Ticket) error {
	var taken int64
	err := w.tx.Model(&Row{}).Where("sale_id = ? AND user_id = ? AND slot = ?", row.SaleID, row.UserID, t.Slot).
		Count(&taken).Error
	if err != nil {
		return err
	}
	if taken > 0 {
		w.done.Refused++
		return nil
	}
	is := w.row(t)
	changes := map[string]any{"status": is.Status, "refund": cmp.Or(row.Refund, is.Refund), "reason": "",
		"slot": is.Slot, "confirmed_at": is.ConfirmedAt, "pay_by": is.PayBy,
		"paid_at": is.PaidAt, "ended_at": 0, "ended_by": 0, "released": 1}
	if err := w.tx.Model(&Row{}).Where("id = ?", row.ID).Updates(changes).Error; err != nil {
		return err
	}
	w.taken += int64(row.Quantity)
	w.tell(t)
	w.done.Orders++
	return nil
}

// tell queues the news of what an order is now.
func (w *repair) tell(t queue.Ticket) {
	event := map[queue.State]string{queue.Confirmed: notify.EventConfirmed, queue.Paid: notify.EventPaid,
		queue.Cancelled: notify.EventCancelled,
		queue.Expired:   notify.EventExpired, queue.Failed: notify.EventFailed}[t.State]
	if t.State == queue.Paid { // it lost the news of both
		w.news = append(w.news, newsOf(t, w.sale.ID, notify.EventConfirmed, w.channels, w.now())...)
	}
	w.news = append(w.news, newsOf(t, w.sale.ID, event, w.channels, w.now())...)
	if t.Refund {
		w.tellRefund(t)
	}
}

func (w *repair) tellRefund(t queue.Ticket) {
	w.news = append(w.news, newsOf(t, w.sale.ID, notify.EventRefundRequired, w.channels, w.now())...)
}

// refundLost is why a payment must go back that the database has lost: the line knows no more than that one must.
// Empty: none.
func refundLost(t queue.Ticket) string {
	switch {
	case !t.Refund:
		return ""
	case t.State == queue.Paid:
		return RefundAgain
	case t.State == queue.Expired:
		return RefundLate
	case t.State == queue.Confirmed: // nothing else goes back before an order is paid
		return RefundAmount
	}
	return RefundEnded
}

// row is an order as the line remembers it.
func (w *repair) row(t queue.Ticket) Row {
	row := ticketRow(w.sale, w.sale.Epoch, &t)
	row.BatchID, row.Refund = w.tag, refundLost(t)
	if !sold(t) {
		row.end(statusOf(t.State), t.Reason, msOf(t.At))
		return row
	}
	row.Slot, row.Status, row.Reason = &t.Slot, statusOf(t.State), t.Reason
	row.ConfirmedAt, row.PayBy, row.PaidAt = msOf(t.At), msOf(t.PayBy), msOf(t.PaidAt)
	return row
}

// msOf is a time in a row: 0 when there is none.
func msOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
