package order

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// errApart says that batches cannot be orders in one transaction: each by
// itself finds out what is the matter.
var errApart = errors.New("not all of their tickets are new orders")

// HandleParty implements queue.PartyHandler: the batches of several sales in
// one transaction, in which every ticket becomes an order, or none does.
func (f *Fulfiller) HandleParty(ctx context.Context, batches []queue.Batch) ([][]queue.Outcome, error) {
	if err := f.mixed.prepare(ctx); err != nil {
		return nil, err
	}
	p, err := f.partyOf(ctx, batches)
	if err != nil {
		return nil, err
	}
	err = f.db.Tx(ctx, func(tx *gorm.DB) error {
		f.stamp(p.fresh, newTag(f.now(), f.instance))
		return p.write(tx, f.mixed, f.channels)
	})
	if err != nil {
		return nil, fmt.Errorf("fulfil batches of %d sales together: %w", len(batches), err)
	}
	killpoint.Pass("tx.committed")
	f.told()
	return p.outcomes(), nil
}

// party are batches of different sales on their way into one transaction.
type party struct {
	batches []queue.Batch
	sales   []inventory.Sale // of each batch
	takings []inventory.Taking
	changes map[string]int64 // of the ledger, by sale
	fresh   *fresh
}

func (f *Fulfiller) partyOf(ctx context.Context, batches []queue.Batch) (*party, error) {
	p := &party{batches: batches, sales: make([]inventory.Sale, len(batches)), takings: make([]inventory.Taking, len(batches))}
	var lots []lot
	for i, b := range batches {
		sale, err := f.sale(ctx, b.Sale)
		if err != nil {
			return nil, err
		}
		p.sales[i], p.takings[i] = sale, inventory.Taking{Sale: b.Sale, Epoch: b.Epoch, Known: b.Ledger}
		for t := range b.Tickets {
			ticket := &b.Tickets[t]
			if ticket.State != queue.Queued {
				return nil, fmt.Errorf("order %s of %s is %c: %w", ticket.ID, b.Sale, ticket.State, errApart)
			}
			p.takings[i].Units += int64(ticket.Units)
			lots = append(lots, lot{ticket: ticket, sale: &p.sales[i], epoch: b.Epoch})
		}
	}
	p.fresh = mixedOf(lots)
	return p, nil
}

// write is Fulfiller.fulfil for all of them: orders, outbox, and last the hot stock rows.
func (p *party) write(tx *gorm.DB, by mixedInsert, channels []string) error {
	all, err := p.fresh.insert(tx, by.orders)
	if err != nil {
		return err
	}
	if !all {
		return errApart
	}
	killpoint.Pass("tx.inserted")
	if err := p.fresh.announce(tx, by.outbox, channels); err != nil {
		return err
	}
	if p.changes, err = inventory.TakeEach(tx, p.takings); err != nil {
		return err
	}
	killpoint.Pass("tx.before-commit")
	for i, b := range p.batches {
		if err := checkLimit(tx, p.sales[i], batchResult{sale: b.Sale, inserted: b.Tickets}); err != nil {
			return err
		}
	}
	return nil
}

// outcomes answer the batches once all their tickets are orders.
func (p *party) outcomes() [][]queue.Outcome {
	answers := make([][]queue.Outcome, len(p.batches))
	for i, b := range p.batches {
		answers[i] = p.fresh.confirmed(b.Tickets)
		if len(answers[i]) > 0 {
			answers[i][0].Ledger = p.changes[b.Sale]
		}
	}
	return answers
}

// lot is a ticket with what its sale adds to its row.
type lot struct {
	ticket *queue.Ticket
	sale   *inventory.Sale
	epoch  int64
}

// mixedOf is freshOf for tickets of several sales: what comes from the sale is a row's own.
func mixedOf(lots []lot) *fresh {
	slices.SortFunc(lots, func(a, b lot) int { return strings.Compare(a.ticket.ID, b.ticket.ID) })
	made := &fresh{shared: sharedColumns(inventory.Sale{}, 0)[:sharedSale], rows: mixedColumns(len(lots)), bare: mixedEmail}
	for i, l := range lots {
		made.put(i, l.ticket)
		of := made.rows[ownSale:mixedEmail]
		of[0].Texts[i], of[1].Texts[i], of[2].Ints[i], of[3].Ints[i] = l.sale.ID, l.sale.Currency, l.sale.PriceCents, l.epoch
	}
	return made
}

// mixedEmail is where the contact begins in rows of several sales, whose sale is before it.
const (
	ownSale    = ownEmail
	mixedEmail = ownSale + 4
)

// mixedColumns are a row's own columns, those of its sale before the contact.
func mixedColumns(rows int) []store.Column {
	columns := slices.Clone(ownColumns(rows))
	for i, c := range sharedColumns(inventory.Sale{}, 0)[sharedSale:] {
		own := store.Column{Name: c.Name}
		if c.Texts != nil {
			own.Texts = make([]string, rows)
		} else {
			own.Ints = make([]int64, rows)
		}
		columns = slices.Insert(columns, ownSale+i, own)
	}
	return columns
}

// mixedInsert are the statements for orders of several sales and their news.
type mixedInsert struct {
	orders freshInsert
	outbox *store.Bulk
}

func newMixedInsert(db *store.DB) mixedInsert {
	shared, own := sharedColumns(inventory.Sale{}, 0)[:sharedSale], mixedColumns(1)
	return mixedInsert{outbox: notify.NewMixedInsert(db),
		orders: freshInsert{full: db.NewBulk("orders", shared, own), bare: db.NewBulk("orders", shared, own[:mixedEmail])}}
}

func (m mixedInsert) prepare(ctx context.Context) error {
	return errors.Join(m.orders.prepare(ctx), m.outbox.Prepare(ctx))
}
