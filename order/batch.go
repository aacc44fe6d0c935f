package order

import (
	"time"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
)

// batchResult is what one transaction found out about its tickets.
type batchResult struct {
	sale        string
	outcomes    []queue.Outcome
	inserted    []queue.Ticket // orders made by this very transaction
	closed      []queue.Ticket // cancelled tickets recorded by it
	conflicting []queue.Ticket // users who hold another order
	units       int64          // of the inserted
}

// classify sorts tickets by what the database holds under their ids: a row of
// this transaction, a row of an earlier delivery, or none because the user's
// slot is taken.
func classify(sale string, tickets []queue.Ticket, stored map[string]Row, tag string) batchResult {
	result := batchResult{sale: sale, outcomes: make([]queue.Outcome, 0, len(tickets))}
	for _, t := range tickets {
		row, ok := stored[t.ID]
		switch {
		case !ok:
			result.conflicting = append(result.conflicting, t)
			result.outcomes = append(result.outcomes, queue.Outcome{ID: t.ID, Op: queue.OpFail, Reason: ReasonLimit})
			continue
		case row.BatchID != tag:
		case t.State == queue.Queued:
			result.inserted = append(result.inserted, t)
			result.units += int64(t.Units)
		default:
			result.closed = append(result.closed, t)
		}
		result.outcomes = append(result.outcomes, known(t, row))
	}
	return result
}

// known is the outcome of a ticket that has a row.
func known(t queue.Ticket, row Row) queue.Outcome {
	switch {
	case t.State != queue.Queued:
		return queue.Outcome{ID: t.ID, Op: queue.OpClose}
	case row.Status == Confirmed || row.Status == Paid:
		return queue.Outcome{ID: t.ID, Op: queue.OpConfirm}
	}
	reason := row.Reason
	if reason == "" {
		reason = row.Status
	}
	return queue.Outcome{ID: t.ID, Op: queue.OpFail, Reason: reason}
}

func (r batchResult) news(channels []string, now time.Time) []notify.Row {
	var rows []notify.Row
	add := func(tickets []queue.Ticket, event string) {
		for _, t := range tickets {
			rows = append(rows, newsOf(t, r.sale, event, channels, now)...)
		}
	}
	add(r.inserted, EventConfirmed)
	add(r.closed, EventCancelled)
	add(r.conflicting, EventFailed)
	return rows
}

// dueAtOnce is a time long past: news is due whatever the relay's clock says.
const dueAtOnce = 1

func newsOf(t queue.Ticket, sale, event string, channels []string, now time.Time) []notify.Row {
	rows := make([]notify.Row, len(channels))
	for i, channel := range channels {
		rows[i] = notify.Row{OrderID: t.ID, Event: event, Channel: channel, SaleID: sale, UserID: t.User, CreatedAt: now.UnixMilli(), NextAt: dueAtOnce}
	}
	return rows
}

// checkLimit refuses the transaction when a user would end up with more than
// the limit although every slot was free: Redis may have forgotten an order of
// several units. The stock row, locked by now, lets one batch of a sale check
// at a time.
func checkLimit(tx *gorm.DB, sale inventory.Sale, r batchResult) error {
	if sale.PerUserLimit == 1 || len(r.inserted) == 0 {
		return nil
	}
	users := make([]string, len(r.inserted))
	for i, t := range r.inserted {
		users[i] = t.User
	}
	var over []string
	err := tx.Table("orders").Where("sale_id = ? AND user_id IN ? AND slot IS NOT NULL", sale.ID, users).
		Group("user_id").Having("SUM(quantity) > ?", sale.PerUserLimit).Pluck("user_id", &over).Error
	if err == nil && len(over) > 0 {
		return errOverLimit
	}
	return err
}
