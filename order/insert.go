package order

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"sluice/store"
)

// inserter is the one road into the table of orders. A row that conflicts with one already there is skipped.
// Safe for concurrent use.
type inserter struct {
	oneSale, manySales newOrdersInsert
	anyState           *store.Bulk[Row]
}

// newOrdersInsert takes confirmed orders of one run of a transaction. Most often nobody gave a contact.
type newOrdersInsert struct{ withContact, withoutContact *store.Bulk[Row] }

// newInserter returns the inserts for one database. A new column belongs in one of the groups of fields below, and
// nowhere else.
func newInserter(db *store.DB) *inserter {
	bulk := func(shared, own []store.Field[Row]) *store.Bulk[Row] {
		return store.NewBulk(db, store.Layout[Row]{Table: Row{}.TableName(), Shared: shared, Own: own})
	}
	newOrders := func(shared, own []store.Field[Row]) newOrdersInsert {
		return newOrdersInsert{withoutContact: bulk(shared, own),
			withContact: bulk(shared, fields(own, contactFields()))}
	}
	slotOrNull := slotField()
	slotOrNull.Null = true
	return &inserter{
		oneSale:   newOrders(fields(runFields(), saleFields()), ticketFields(slotField())),
		manySales: newOrders(runFields(), fields(ticketFields(slotField()), saleFields())),
		anyState: bulk(nil, fields(ticketFields(slotOrNull), runFields(), saleFields(), contactFields(),
			endFields())),
	}
}

func fields(groups ...[]store.Field[Row]) (all []store.Field[Row]) {
	for _, group := range groups {
		all = append(all, group...)
	}
	return all
}

// prepare makes the statements for new orders ready, outside of a transaction.
func (i *inserter) prepare(ctx context.Context) error {
	return errors.Join(i.oneSale.prepare(ctx), i.manySales.prepare(ctx))
}

// insert adds rows in whatever state, and returns how many. Callers pass them by id: deliveries of the same tickets
// then wait for each other and never deadlock.
func (i *inserter) insert(tx *gorm.DB, rows []Row) (inserted int64, err error) {
	return i.anyState.Insert(tx, rows)
}

func (n newOrdersInsert) prepare(ctx context.Context) error {
	return errors.Join(n.withContact.Prepare(ctx), n.withoutContact.Prepare(ctx))
}

// insert adds orders that one run has confirmed, as inserter.insert does.
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

// runFields are alike in all orders that one run of a transaction confirms.
func runFields() []store.Field[Row] {
	return []store.Field[Row]{
		text("batch_id", func(r *Row) string { return r.BatchID }),
		text("status", func(r *Row) string { return r.Status }),
		number("confirmed_at", func(r *Row) int64 { return r.ConfirmedAt }),
		number("pay_by", func(r *Row) int64 { return r.PayBy }),
	}
}

// saleFields are alike in all orders that one sale's batch makes.
func saleFields() []store.Field[Row] {
	return []store.Field[Row]{
		text("sale_id", func(r *Row) string { return r.SaleID }),
		text("currency", func(r *Row) string { return r.Currency }),
		number("price_cents", func(r *Row) int64 { return r.PriceCents }),
		number("epoch", func(r *Row) int64 { return r.Epoch }),
	}
}

// slotField is the slot that every new order holds. One that has ended holds none.
func slotField() store.Field[Row] {
	return number("slot", func(r *Row) int64 {
		if r.Slot == nil {
			return 0
		}
		return int64(*r.Slot)
	})
}

// ticketFields are each order's own.
func ticketFields(slot store.Field[Row]) []store.Field[Row] {
	return []store.Field[Row]{
		text("id", func(r *Row) string { return r.ID }),
		text("user_id", func(r *Row) string { return r.UserID }),
		text("fingerprint", func(r *Row) string { return r.Fingerprint }),
		text("locale", func(r *Row) string { return r.Locale }),
		slot,
		number("quantity", func(r *Row) int64 { return int64(r.Quantity) }),
		number("seq", func(r *Row) int64 { return r.Seq }),
		number("position", func(r *Row) int64 { return r.Position }),
		number("eta_seconds", func(r *Row) int64 { return r.ETASeconds }),
		number("admitted_at", func(r *Row) int64 { return r.AdmittedAt }),
		number("admitted_by", func(r *Row) int64 { return r.AdmittedBy }),
	}
}

func contactFields() []store.Field[Row] {
	return []store.Field[Row]{
		text("email", func(r *Row) string { return r.Email }),
		text("phone", func(r *Row) string { return r.Phone }),
	}
}

// endFields have their defaults in a new order: they tell how it ended, was paid, or came back.
func endFields() []store.Field[Row] {
	return []store.Field[Row]{
		text("reason", func(r *Row) string { return r.Reason }),
		text("refund", func(r *Row) string { return r.Refund }),
		number("released", func(r *Row) int64 { return int64(r.Released) }),
		number("ended_at", func(r *Row) int64 { return r.EndedAt }),
		number("ended_by", func(r *Row) int64 { return r.EndedBy }),
		number("paid_at", func(r *Row) int64 { return r.PaidAt }),
		number("late_seq", func(r *Row) int64 { return r.LateSeq }),
		number("fence", func(r *Row) int64 { return r.Fence }),
	}
}
