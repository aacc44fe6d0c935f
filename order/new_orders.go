package order

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"sluice/notify"
	"sluice/queue"
)

// newOrders are tickets that are to become orders, with their rows. They are made before the transaction: no lock
// and no connection waits for it.
type newOrders struct {
	tickets []queue.Ticket // of one sale; those of several are in their batches
	rows    []Row          // by id, as inserter wants them
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
	n.now, n.payBy = s.now, atMS(s.payBy)
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
	at := atMS(n.now.UnixMilli())
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

// tagInstance is how much of an instance's name fits behind the UUID: batch_id
// holds 48 characters. The end of a name is what tells instances apart.
const tagInstance = 11

// newTag names one run of a transaction: no two are alike, and it says when
// the run began and where, so that a timeline needs no row of its own for it.
func newTag(now time.Time, instance string) string {
	id := uuid.Must(uuid.NewV7())
	ms := now.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i)) // #nosec G115 -- one byte of it
	}
	instance = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '-'
		}
		return r
	}, instance)
	return id.String() + "@" + instance[max(0, len(instance)-tagInstance):]
}

// readTag is the inverse of newTag; at is zero for a tag without a time.
func readTag(tag string) (at time.Time, instance string) {
	name, instance, _ := strings.Cut(tag, "@")
	id, err := uuid.Parse(name)
	if err != nil || id.Version() != 7 {
		return time.Time{}, instance
	}
	ms := int64(0)
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return atMS(ms), instance
}
