package order

import (
	"cmp"
	"time"

	"sluice/notify"
	"sluice/queue"
)

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
