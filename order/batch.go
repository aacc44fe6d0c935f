package order

import (
	"slices"
	"time"

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
	earlier     bool           // some have a row of an earlier delivery, whose change the line may not know
	requeued    []queue.Ticket // dead letters that came back and have the row of their first life
	undone      []queue.Ticket // cancelled tickets whose rows, of earlier deliveries, say something else
}

// IsOrder reports whether a ticket is an order by the line's own word.
func IsOrder(t queue.Ticket) bool { return t.State == queue.Confirmed || t.State == queue.Paid }

// closeOrdered takes out tickets that are orders already: a rebuild found them in the ledger although they were still
// listed.
func closeOrdered(all []queue.Ticket) (tickets []queue.Ticket, ordered []queue.Outcome) {
	if !slices.ContainsFunc(all, IsOrder) {
		return all, nil
	}
	for _, t := range all {
		if IsOrder(t) {
			ordered = append(ordered, queue.Outcome{ID: t.ID, Op: queue.OpClose})
			continue
		}
		tickets = append(tickets, t)
	}
	return tickets, ordered
}

// partition separates tickets that are to be new orders from all others. Those ended in the line or were dead letters:
// they may have a row, or a payment.
func partition(all []queue.Ticket) (queued, others []queue.Ticket) {
	mayHaveRow := func(t queue.Ticket) bool { return t.State != queue.Queued || t.Mark > 0 || t.Refund }
	if !slices.ContainsFunc(all, mayHaveRow) {
		return all, nil
	}
	for _, t := range all {
		if mayHaveRow(t) {
			others = append(others, t)
		} else {
			queued = append(queued, t)
		}
	}
	return queued, others
}

// classify sorts tickets by what the database holds under their ids. That is a row of this transaction or of an
// earlier delivery, or none because the user's slot is taken.
func classify(sale string, tickets []queue.Ticket, stored map[string]Row, tag string) batchResult {
	result := batchResult{sale: sale, outcomes: make([]queue.Outcome, 0, len(tickets))}
	for _, t := range tickets {
		row, ok := stored[t.ID]
		switch {
		case !ok:
			result.conflicting = append(result.conflicting, t)
			result.outcomes = append(result.outcomes, queue.Outcome{ID: t.ID, Op: queue.OpFail, Reason: ReasonLimit})
			continue
		case row.BatchID != tag && row.diedBefore(t):
			result.requeued = append(result.requeued, t)
			continue
		case row.BatchID != tag:
			result.earlier = true
			if row.Contradicts(t) {
				result.undone = append(result.undone, t)
			}
		case t.State == queue.Queued:
			result.inserted = append(result.inserted, t)
			result.units += int64(t.Units)
		default:
			result.closed = append(result.closed, t)
		}
		result.outcomes = append(result.outcomes, row.Outcome(t))
	}
	return result
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

// confirmations returns the news of the orders made.
func (r batchResult) confirmations(channels []string, now time.Time) []notify.Row {
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

// newsOf returns the outbox rows of an event of a ticket, one for each channel.
func newsOf(t queue.Ticket, sale, event string, channels []string, now time.Time) []notify.Row {
	return Row{ID: t.ID, SaleID: sale, UserID: t.User}.News(event, channels, now)
}

// endingOf returns the event of a ticket that did not become an order.
func endingOf(t queue.Ticket) string {
	if t.State == queue.Cancelled {
		return notify.EventCancelled
	}
	return notify.EventFailed
}
