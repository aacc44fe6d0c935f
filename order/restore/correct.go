package restore

import (
	"cmp"

	"sluice/notify"
	"sluice/order"
	"sluice/queue"
)

// correct brings an order to the state that its owner knows: paid, or ended. Its units are back in the line already.
func (w *repair) correct(row order.Row, t queue.Ticket) error {
	changes := map[string]any{}
	switch {
	case row.Status == order.Confirmed && t.State == queue.Paid:
		changes["status"], changes["paid_at"] = order.Paid, t.PaidAt.UnixMilli()
	case row.Contradicts(t) && row.Slot == nil: // it had failed or expired before
		changes["status"], changes["reason"], changes["ended_at"] = order.Cancelled, "", t.At.UnixMilli()
		changes["ended_by"] = t.EndedBy
	case row.Status == order.Confirmed && (t.State == queue.Cancelled || t.State == queue.Expired),
		row.Status == order.Paid && t.State == queue.Cancelled:
		changes["status"], changes["slot"], changes["ended_at"] = order.StatusOf(t.State), nil, t.At.UnixMilli()
		changes["released"], changes["ended_by"] = 1, t.EndedBy
		w.back += int64(row.Quantity)
		if row.Status == order.Paid { // after it was cancelled
			t.Refund = true
			if err := order.RefundPayment(w.tx, row.ID); err != nil {
				return err
			}
		}
	}
	if len(changes) > 0 {
		w.queueNews(t)
	}
	if t.Refund && row.Refund == "" {
		changes["refund"] = lostRefund(t)
		w.queueEvent(t, notify.EventRefundRequired)
	}
	if len(changes) == 0 {
		return nil
	}
	w.done.Orders++
	return w.tx.Model(&order.Row{}).Where("id = ?", row.ID).Updates(changes).Error
}

// resumable reports that an order of the line has a row that says less. What was confirmed never fails: a worker that
// came late wrote the row, after the database had lost the order. What was paid never expires: it was paid late, and
// the database has lost that.
func resumable(row order.Row, t queue.Ticket) bool {
	return row.Status == order.Failed && order.IsOrder(t) || row.Status == order.Expired && t.State == queue.Paid
}

// resume makes an order of such a row. Where somebody else has the slot by now it stays as it is.
func (w *repair) resume(row order.Row, t queue.Ticket) error {
	var taken int64
	err := w.tx.Model(&order.Row{}).Where("sale_id = ? AND user_id = ? AND slot = ?", row.SaleID, row.UserID, t.Slot).
		Count(&taken).Error
	if err != nil {
		return err
	}
	if taken > 0 {
		w.done.Refused++
		return nil
	}
	known := w.row(t)
	changes := map[string]any{"status": known.Status, "refund": cmp.Or(row.Refund, known.Refund), "reason": "",
		"slot": known.Slot, "confirmed_at": known.ConfirmedAt, "pay_by": known.PayBy, "paid_at": known.PaidAt,
		"ended_at": 0, "ended_by": 0, "released": 1}
	if err := w.tx.Model(&order.Row{}).Where("id = ?", row.ID).Updates(changes).Error; err != nil {
		return err
	}
	w.taken += int64(row.Quantity)
	w.queueNews(t)
	w.done.Orders++
	return nil
}

// queueNews queues the news of what an order is now.
func (w *repair) queueNews(t queue.Ticket) {
	event := map[queue.State]string{queue.Confirmed: notify.EventConfirmed, queue.Paid: notify.EventPaid,
		queue.Cancelled: notify.EventCancelled, queue.Expired: notify.EventExpired,
		queue.Failed: notify.EventFailed}[t.State]
	if t.State == queue.Paid { // it lost the news of both
		w.queueEvent(t, notify.EventConfirmed)
	}
	w.queueEvent(t, event)
	if t.Refund {
		w.queueEvent(t, notify.EventRefundRequired)
	}
}

func (w *repair) queueEvent(t queue.Ticket, event string) {
	row := order.Row{ID: t.ID, SaleID: w.sale.ID, UserID: t.User}
	w.news = append(w.news, row.News(event, w.channels, w.now())...)
}

// lostRefund returns why a payment must go back that the database has lost; empty: none. The line knows no more than
// that one must.
func lostRefund(t queue.Ticket) string {
	switch {
	case !t.Refund:
		return ""
	case t.State == queue.Paid:
		return order.RefundAgain
	case t.State == queue.Expired:
		return order.RefundLate
	case t.State == queue.Confirmed: // nothing else goes back before an order is paid
		return order.RefundAmount
	}
	return order.RefundEnded
}

// row returns an order as the line remembers it.
func (w *repair) row(t queue.Ticket) order.Row {
	row := order.NewRow(w.sale, w.sale.Epoch, &t)
	row.BatchID, row.Refund = w.tag, lostRefund(t)
	if !order.IsOrder(t) {
		row.End(order.StatusOf(t.State), t.Reason, order.Millis(t.At))
		return row
	}
	row.Slot, row.Status, row.Reason = &t.Slot, order.StatusOf(t.State), t.Reason
	row.ConfirmedAt, row.PayBy, row.PaidAt = order.Millis(t.At), order.Millis(t.PayBy), order.Millis(t.PaidAt)
	return row
}
