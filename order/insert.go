package order

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"gorm.io/gorm"

	"sluice/store"
)

// Inserter is the one road into the table of orders. A row that conflicts with one already there is skipped.
// Safe for concurrent use.
type Inserter struct {
	oneSale, manySales newOrdersInsert
	anyState           *store.Bulk[Row]
}

// newOrdersInsert takes confirmed orders of one run of a transaction. Most often nobody gave a contact.
type newOrdersInsert struct{ withContact, withoutContact *store.Bulk[Row] }

// NewInserter returns the inserts for one database.
func NewInserter(db *store.DB) *Inserter {
	bulk := func(shared, own []store.Field[Row]) *store.Bulk[Row] {
		return store.NewBulk(db, store.Layout[Row]{Table: Row{}.TableName(), Shared: shared, Own: own})
	}
	newOrders := func(shared, own []store.Field[Row]) newOrdersInsert {
		return newOrdersInsert{withoutContact: bulk(shared, own),
			withContact: bulk(shared, slices.Concat(own, contactFields()))}
	}
	slotOrNull := slotField()
	slotOrNull.Null = true
	return &Inserter{
		oneSale:   newOrders(slices.Concat(runFields(), saleFields()), ticketFields(slotField())),
		manySales: newOrders(runFields(), slices.Concat(ticketFields(slotField()), saleFields())),
		anyState: bulk(nil, slices.Concat(ticketFields(slotOrNull), runFields(), saleFields(), contactFields(),
			endFields())),
	}
}

// Insert adds rows in whatever state, sorted by id, and returns how many went in. Deliveries of the same tickets then
// wait for each other and never deadlock.
func (i *Inserter) Insert(tx *gorm.DB, rows []Row) (inserted int64, err error) {
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	return i.anyState.Insert(tx, rows)
}

// prepare makes the statements for new orders ready, outside of a transaction.
func (i *Inserter) prepare(ctx context.Context) error {
	return errors.Join(i.oneSale.prepare(ctx), i.manySales.prepare(ctx))
}

func (n newOrdersInsert) prepare(ctx context.Context) error {
	return errors.Join(n.withContact.Prepare(ctx), n.withoutContact.Prepare(ctx))
}

// insert adds orders that one run has confirmed, as Insert does. Their rows are in the order of their ids.
func (n newOrdersInsert) insert(tx *gorm.DB, rows []Row) (inserted int64, err error) {
	for i := range rows {
		if rows[i].Email+rows[i].Phone != "" {
			return n.withContact.Insert(tx, rows)
		}
	}
	return n.withoutContact.Insert(tx, rows)
}

func text(name string, of func(*Row) string) store.Field[Row] {
	return store.Field[Row]{Name: name, Text: of}
}

func number(name string, of func(*Row) int64) store.Field[Row] {
	return store.Field[Row]{Name: name, Int: of}
}
