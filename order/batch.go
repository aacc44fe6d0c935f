package order

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
)

// batchResult holds what one transaction found out about its tickets.
type batchResult struct {
	sale        string
	outcomes    []queue.Outcome
	inserted    []queue.Ticket // orders made by this very transaction
	closed      []queue.Ticket // cancelled tickets recorded by it
	conflicting []queue.Ticket // users who hold another order
	units       int64          // of the inserted
	earlier     bool           // some have a row of an earlier delivery, which may not have told the line of its change
	requeued    []queue.Ticket // dead letters that came back and have the row of their first life
	undone      []queue.Ticket // cancelled tickets whose rows, of earlier deliveries, say something else
}

// closeOrdered takes out tickets that are orders already by the line's own word: a
// rebuild found them in the ledger although they were still listed.
func closeOrdered(all []queue.Ticket) (tickets []queue.Ticket, ordered []queue.Outcome) {
	is := func(t queue.Ticket) bool { return t.State == queue.Confirmed || t.State == queue.Paid }
	if !slices.ContainsFunc(all, is) {
		return all, nil
	}
	for _, t := range all {
		if is(t) {
			ordered = append(ordered, queue.Outcome{ID: t.ID, Op: queue.OpClose})
			continue
		}
		tickets = append(tickets, t)
	}
	return tickets, ordered
}

// partition tells tickets that are to be new orders from those that ended in the
// line, or were dead letters: they may have a row, or a payment.
func partition(all []queue.Ticket) (queued, others []queue.Ticket) {
	has := func(t queue.Ticket) bool { return t.State != queue.Queued || t.Mark > 0 || t.Refund }
	if !slices.ContainsFunc(all, has) {
		return all, nil
	}
	for _, t := range all {
		if has(t) {
			others = append(others, t)
		} else {
			queued = append(queued, t)
		}
	}
	return queued, others
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
		case row.BatchID != tag && diedBefore(row, t):
			result.requeued = append(result.requeued, t)
			continue
		case row.BatchID != tag:
			result.earlier = true
			if contradicts(row, t) {
				result.undone = append(result.undone, t)
			}
		case t.State == queue.Queued:
			result.inserted = append(result.inserted, t)
			result.units += int64(t.Units)
		default:
			result.closed = append(result.closed, t)
		}
		result.outcomes = append(result.outcomes, outcomeOf(t, row))
	}
	return result
}

// diedBefore reports that a row says of a ticket that it failed in an earlier
// life: since then an operator has put it back.
func diedBefore(row Row, t queue.Ticket) bool {
	return t.State == queue.Queued && row.Status == Failed && row.LateSeq < t.Mark
}

// contradicts reports that a row says something else than its owner was told, who
// has cancelled the ticket since.
func contradicts(row Row, t queue.Ticket) bool {
	return t.State == queue.Cancelled && row.Status != Cancelled
}

// outcomeOf tells the line what became of a ticket, by the row that it has.
func outcomeOf(t queue.Ticket, row Row) queue.Outcome {
	outcome := outcomeByRow(t, row)
	outcome.Again = row.Seq < t.Seq
	return outcome
}

func outcomeByRow(t queue.Ticket, row Row) queue.Outcome {
	switch {
	case t.State != queue.Queued:
		return queue.Outcome{ID: t.ID, Op: queue.OpClose}
	case row.Status == Paid:
		return queue.Outcome{ID: t.ID, Op: queue.OpPaid, At: atMS(row.ConfirmedAt), Pay: atMS(row.PaidAt)}
	case row.Status == Confirmed:
		return queue.Outcome{ID: t.ID, Op: queue.OpConfirm, At: atMS(row.ConfirmedAt), Pay: atMS(row.PayBy)}
	case row.Status == Cancelled:
		return queue.Outcome{ID: t.ID, Op: queue.OpEnded, State: queue.Cancelled, At: atMS(row.EndedAt)}
	case row.Status == Expired:
		return queue.Outcome{ID: t.ID, Op: queue.OpEnded, State: queue.Expired, At: atMS(row.EndedAt)}
	}
	outcome := queue.Outcome{ID: t.ID, Op: queue.OpFail, Reason: cmp.Or(row.Reason, row.Status), At: atMS(row.EndedAt)}
	if row.Reason == ReasonGaveUp { // whoever buried it could not say so
		outcome.Op = queue.OpDead
	}
	return outcome
}

// merge adds what another part of the transaction found out.
func (r batchResult) merge(other batchResult) batchResult {
	return batchResult{sale: r.sale,
		outcomes:    append(r.outcomes, other.outcomes...),
		inserted:    append(r.inserted, other.inserted...),
		closed:      append(r.closed, other.closed...),
		conflicting: append(r.conflicting, other.conflicting...),
		units:       r.units + other.units,
		earlier:     r.earlier || other.earlier,
		requeued:    append(r.requeued, other.requeued...),
		undone:      append(r.undone, other.undone...)}
}

// confirmed returns the news of the orders made.
func (r batchResult) confirmed(channels []string, now time.Time) []notify.Row {
	var rows []notify.Row
	for _, t := range r.inserted {
		rows = append(rows, newsOf(t, r.sale, notify.EventConfirmed, channels, now)...)
	}
	return rows
}

// endings returns the news of the tickets that did not become orders.
func (r batchResult) endings(channels []string, now time.Time) []notify.Row {
	var rows []notify.Row
	for _, t := range r.closed {
		rows = append(rows, newsOf(t, r.sale, endingOf(t), channels, now)...)
	}
	for _, t := range r.conflicting {
		rows = append(rows, newsOf(t, r.sale, notify.EventFailed, channels, now)...)
	}
	return rows
}

// endingOf returns the event of a ticket that did not become an order.
func endingOf(t queue.Ticket) string {
	if t.State == queue.Cancelled {
		return notify.EventCancelled
	}
	return notify.EventFailed
}

func newsOf(t queue.Ticket, sale, event string, channels []string, now time.Time) []notify.Row {
	rows := make([]notify.Row, len(channels))
	for i, channel := range channels {
		rows[i] = notify.Row{OrderID: t.ID, Event: event, Channel: channel, SaleID: sale, UserID: t.User,
			CreatedAt: now.UnixMilli()}
	}
	return rows
}

// errOverLimit says that a batch would give a user more units than allowed.
var errOverLimit = errors.New("a user would hold more than the limit")

// checkLimit refuses the transaction when a user would end up with more than the limit although every slot was free:
// Redis may have forgotten an order of several units. The stock row, locked by now, lets one batch of a sale check at
// a time. The limit is read here: it may have been raised since the sale cache was refreshed.
func checkLimit(tx *gorm.DB, sale inventory.Sale, made []queue.Ticket) error {
	if sale.PerUserLimit == 1 || len(made) == 0 {
		return nil
	}
	users := make([]string, len(made))
	for i, t := range made {
		users[i] = t.User
	}
	for some := range slices.Chunk(users, limitUsers) {
		if err := limitOf(tx, sale.ID, some); err != nil {
			return err
		}
	}
	return nil
}

// limitUsers keeps one statement within every dialect's bound on parameters.
const limitUsers = 1000

// limitOf returns errOverLimit when one of the users holds more than the sale allows.
func limitOf(tx *gorm.DB, sale string, users []string) error {
	var over []string
	err := tx.Table("orders").Where("sale_id = ? AND user_id IN ? AND slot IS NOT NULL", sale, users).
		Group("user_id").Having("SUM(quantity) > (SELECT per_user_limit FROM sales WHERE id = ?)", sale).
		Pluck("user_id", &over).Error
	if err != nil {
		return fmt.Errorf("read what %d users hold of %s: %w", len(users), sale, err)
	}
	if len(over) > 0 {
		return errOverLimit
	}
	return nil
}
