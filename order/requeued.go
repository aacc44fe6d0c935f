package order

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// confirmRequeued makes orders of the dead letters that came back, out of the rows of their first lives. Contact,
// refund and admission stay. Where another order has the user's slot by now, the letter fails for good.
func (r *run) confirmRequeued(result *batchResult) error {
	if len(result.requeued) == 0 {
		return nil
	}
	tickets := make(map[string]queue.Ticket, len(result.requeued))
	for _, t := range result.requeued {
		tickets[t.ID] = t
	}
	locked, err := lockRows(r.tx, slices.Collect(maps.Keys(tickets)))
	if err != nil {
		return err
	}
	for _, row := range locked {
		t := tickets[row.ID]
		if !row.diedBefore(t) { // another worker was faster
			result.earlier = true
			result.outcomes = append(result.outcomes, row.Outcome(t))
			continue
		}
		if err := r.confirmAgain(result, row, t); err != nil {
			return fmt.Errorf("confirm requeued order %s: %w", row.ID, err)
		}
	}
	return nil
}

// lockRows locks the rows of orders, in the order of their ids.
func lockRows(tx *gorm.DB, ids []string) ([]Row, error) {
	slices.Sort(ids)
	var rows []Row
	for chunk := range slices.Chunk(ids, limitUsers) {
		var some []Row
		if err := store.ForUpdate(tx).Where("id IN ?", chunk).Order("id").Find(&some).Error; err != nil {
			return nil, fmt.Errorf("lock %d orders: %w", len(chunk), err)
		}
		rows = append(rows, some...)
	}
	return rows, nil
}

// confirmAgain makes an order of one locked row.
func (r *run) confirmAgain(result *batchResult, row Row, t queue.Ticket) error {
	var others int64
	slot := r.tx.Model(&Row{}).Where("sale_id = ? AND user_id = ? AND slot = ?", row.SaleID, row.UserID, t.Slot)
	if err := slot.Count(&others).Error; err != nil {
		return err
	}
	if others > 0 {
		result.outcomes = append(result.outcomes, queue.Outcome{ID: t.ID, Op: queue.OpFail, Reason: ReasonLimit})
		return r.diedAgain(row, t, ReasonLimit)
	}
	made := r.row(&t, r.stamp)
	changes := map[string]any{"status": Confirmed, "reason": "", "slot": t.Slot, "confirmed_at": made.ConfirmedAt,
		"pay_by": made.PayBy, "ended_at": 0, "ended_by": 0, "released": 1, "batch_id": r.tag, "epoch": r.epoch,
		"late_seq": t.Mark}
	if err := r.tx.Model(&Row{}).Where("id = ?", row.ID).Updates(changes).Error; err != nil {
		return err
	}
	outcome := queue.Outcome{ID: t.ID, Op: queue.OpConfirm, At: Time(made.ConfirmedAt), Pay: Time(made.PayBy)}
	result.outcomes, result.inserted = append(result.outcomes, outcome), append(result.inserted, t)
	result.units += int64(t.Units)
	return nil
}

// diedAgain notes in the row of a dead letter that came back that this life failed too. Its owner was notified when it
// died first.
func (r *run) diedAgain(row Row, t queue.Ticket, reason string) error {
	changes := map[string]any{"reason": reason, "ended_at": r.now.UnixMilli(), "late_seq": t.Mark}
	return r.tx.Model(&Row{}).Where("id = ? AND status = ?", row.ID, Failed).Updates(changes).Error
}

// endUndone ends what earlier deliveries have made of tickets that were cancelled since. A worker committed, could not
// settle, and the ticket came back to the line. What its owner has read holds. A paid order is cancelled too, and the
// payment must go back; so is one that failed or expired. Units of an order return to the line with the settlement. It
// returns the newest change of the ledger, 0 when it has changed nothing. It returns inventory.ErrStale when the line
// has been loaded anew since these tickets were claimed.
func (r *run) endUndone(undone []queue.Ticket) (change int64, err error) {
	if len(undone) == 0 {
		return 0, nil
	}
	tickets := make(map[string]queue.Ticket, len(undone))
	for _, t := range undone {
		tickets[t.ID] = t
	}
	locked, err := lockRows(r.tx, slices.Collect(maps.Keys(tickets)))
	if err != nil {
		return 0, err
	}
	var units int64
	for _, row := range locked {
		if !row.Contradicts(tickets[row.ID]) {
			continue
		}
		if err := r.endCancelled(row, tickets[row.ID]); err != nil {
			return 0, fmt.Errorf("end order %s, whose ticket was cancelled: %w", row.ID, err)
		}
		if row.Slot != nil {
			units += int64(row.Quantity)
		}
	}
	if units == 0 {
		return 0, nil
	}
	return inventory.GiveBack(r.tx, r.taking(units))
}

// endCancelled ends one locked order as its ticket did.
func (r *run) endCancelled(row Row, t queue.Ticket) error {
	events := []string{notify.EventCancelled}
	changes := map[string]any{"status": Cancelled, "reason": "", "slot": nil, "ended_at": t.At.UnixMilli(),
		"ended_by": t.EndedBy, "released": 1}
	if row.Status == Paid {
		changes["refund"] = cmp.Or(row.Refund, RefundEnded)
		events = append(events, notify.EventRefundRequired)
		if err := RefundPayment(r.tx, row.ID); err != nil {
			return err
		}
	}
	if err := r.tx.Model(&Row{}).Where("id = ?", row.ID).Updates(changes).Error; err != nil {
		return err
	}
	for _, event := range events {
		if err := notify.Insert(r.tx, row.News(event, r.f.channels, r.now)); err != nil {
			return err
		}
	}
	return nil
}
