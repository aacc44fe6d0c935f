package order

import (
	"cmp"
	"slices"
	"time"

	"gorm.io/gorm"

	"sluice/notify"
	"sluice/queue"
)

// newOrders are tickets that are to become orders, with their rows. They are made before the transaction, so that
// neither a lock nor a connection waits for them.
type newOrders struct {
	tickets []queue.Ticket // of one sale; those of several are in their batches
	rows    []Row          // by id, as newOrdersInsert wants them
	payBy   time.Time      // of the run that stamped them
	now     time.Time
}

// item is a ticket with the claim of its batch.
type item struct {
	ticket *queue.Ticket
	claim  *claim
}

// newOrdersOf takes the queued tickets of one batch.
func newOrdersOf(c claim, queued []queue.Ticket) *newOrders {
	items := make([]item, len(queued))
	for i := range queued {
		items[i] = item{ticket: &queued[i], claim: &c}
	}
	return &newOrders{tickets: queued, rows: rowsOfItems(items)}
}

// rowsOfItems returns rows that lack the stamp of a run.
func rowsOfItems(items []item) []Row {
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.ticket.ID, b.ticket.ID) })
	rows := make([]Row, len(items))
	for i, one := range items {
		rows[i] = one.claim.row(one.ticket, stamp{})
	}
	return rows
}

// stamp makes the rows those of one run of the transaction.
func (n *newOrders) stamp(s stamp) {
	n.now, n.payBy = s.now, Time(s.payBy)
	at := s.now.UnixMilli()
	for i := range n.rows {
		n.rows[i].BatchID, n.rows[i].ConfirmedAt, n.rows[i].PayBy = s.tag, at, s.payBy
	}
}

// result returns what a run has found out that inserted all of them.
func (n *newOrders) result(sale string) batchResult {
	result := batchResult{sale: sale, inserted: n.tickets, outcomes: n.outcomes(n.tickets)}
	for i := range n.tickets {
		result.units += int64(n.tickets[i].Units)
	}
	return result
}

// outcomes confirms tickets whose rows are in.
func (n *newOrders) outcomes(tickets []queue.Ticket) []queue.Outcome {
	outcomes := make([]queue.Outcome, len(tickets))
	at := Time(n.now.UnixMilli())
	for i := range tickets {
		outcomes[i] = queue.Outcome{ID: tickets[i].ID, Op: queue.OpConfirm, At: at, Pay: n.payBy}
	}
	return outcomes
}

// announce queues the news of all of them for each channel.
func (n *newOrders) announce(tx *gorm.DB, outbox *notify.BulkInsert, channels []string) error {
	news := make([]notify.Row, len(n.rows))
	for i := range n.rows {
		row := &n.rows[i]
		news[i] = notify.Row{OrderID: row.ID, Event: notify.EventConfirmed, SaleID: row.SaleID, UserID: row.UserID,
			CreatedAt: row.ConfirmedAt}
	}
	for _, channel := range channels {
		for i := range news {
			news[i].Channel = channel
		}
		if err := outbox.Insert(tx, news); err != nil {
			return err
		}
	}
	return nil
}
