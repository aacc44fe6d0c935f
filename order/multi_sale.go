package order

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/queue"
)

// errNotAllNew says that batches of several sales cannot become orders in one transaction. Each by itself finds out
// what is the matter.
var errNotAllNew = errors.New("not all of their tickets are new orders")

// HandleMultiSale implements worker.MultiSaleHandler. It takes the batches of several sales in one transaction, in
// which every ticket becomes an order, or none does.
func (f *Fulfiller) HandleMultiSale(ctx context.Context, batches []queue.Batch) ([][]queue.Outcome, error) {
	if err := f.Prepare(ctx); err != nil {
		return nil, err
	}
	m, err := f.multiSaleOf(ctx, batches)
	if err != nil {
		return nil, err
	}
	err = f.db.Tx(ctx, func(tx *gorm.DB) error {
		m.made.stamp(f.newStamp())
		return m.write(tx, f)
	})
	if err != nil {
		return nil, fmt.Errorf("fulfil batches of %d sales together: %w", len(batches), err)
	}
	killpoint.Pass("tx.committed")
	f.onCommit()
	return m.outcomes(), nil
}

// multiSale holds batches of different sales on their way into one transaction.
type multiSale struct {
	batches []queue.Batch
	claims  []claim // of each batch
	takings []inventory.Taking
	changes map[string]int64 // of the ledger, by sale
	made    *newOrders
}

func (f *Fulfiller) multiSaleOf(ctx context.Context, batches []queue.Batch) (*multiSale, error) {
	m := &multiSale{batches: batches, claims: make([]claim, len(batches)),
		takings: make([]inventory.Taking, len(batches))}
	var items []item
	for i, b := range batches {
		sale, err := f.sale(ctx, b.Sale)
		if err != nil {
			return nil, err
		}
		m.claims[i] = claimOf(sale, b)
		units := int64(0)
		for t := range b.Tickets {
			ticket := &b.Tickets[t]
			if ticket.State != queue.Queued {
				return nil, fmt.Errorf("order %s of %s is %c: %w", ticket.ID, b.Sale, ticket.State, errNotAllNew)
			}
			units += int64(ticket.Units)
			items = append(items, item{ticket: ticket, claim: &m.claims[i]})
		}
		m.takings[i] = m.claims[i].taking(units)
	}
	m.made = &newOrders{rows: rowsOfItems(items)}
	return m, nil
}

// write adds the orders of all batches and their news, and takes their units last: the stock rows are hot.
func (m *multiSale) write(tx *gorm.DB, f *Fulfiller) error {
	n, err := f.orders.manySales.insert(tx, m.made.rows)
	if err != nil {
		return err
	}
	if n != int64(len(m.made.rows)) {
		return errNotAllNew
	}
	killpoint.Pass("tx.inserted")
	if err := m.made.announce(tx, f.outbox, f.channels); err != nil {
		return err
	}
	if m.changes, err = inventory.TakeEach(tx, m.takings); err != nil {
		return err
	}
	killpoint.Pass("tx.before-commit")
	for i, b := range m.batches {
		if err := checkBatch(tx, m.claims[i].sale, b.Tickets); err != nil {
			return err
		}
	}
	return nil
}

// outcomes answers the batches once all their tickets are orders.
func (m *multiSale) outcomes() [][]queue.Outcome {
	answers := make([][]queue.Outcome, len(m.batches))
	for i, b := range m.batches {
		answers[i] = m.made.outcomes(b.Tickets)
		if len(answers[i]) > 0 {
			answers[i][0].Ledger = m.changes[b.Sale]
		}
	}
	return answers
}
