package notify

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"sluice/store"
)

// The events of an order that channels deliver.
const (
	EventConfirmed = "order.confirmed"
	EventPaid      = "order.paid"
	EventExpired   = "order.expired"
	EventCancelled = "order.cancelled"
	EventFailed    = "order.failed"
	// A payment came that must go back: the order holds no unit, was paid already or costs another amount. It happens
	// once for each order, at its first such payment.
	EventRefundRequired = "order.refund_required"
)

// Events returns the names of all events.
func Events() []string {
	return []string{EventConfirmed, EventPaid, EventExpired, EventCancelled, EventFailed, EventRefundRequired}
}

// BulkInsert queues one event of many orders, as Insert does, by prepared statements. Safe for concurrent use.
type BulkInsert struct{ oneSale, manySales *store.Bulk[Row] }

// NewBulkInsert returns a BulkInsert for one database.
func NewBulkInsert(db *store.DB) *BulkInsert {
	shared := []store.Field[Row]{
		{Name: "event", Text: func(r *Row) string { return r.Event }},
		{Name: "channel", Text: func(r *Row) string { return r.Channel }},
		{Name: "created_at", Int: func(r *Row) int64 { return r.CreatedAt }},
	}
	own := []store.Field[Row]{
		{Name: "order_id", Text: func(r *Row) string { return r.OrderID }},
		{Name: "user_id", Text: func(r *Row) string { return r.UserID }},
	}
	sale := store.Field[Row]{Name: "sale_id", Text: func(r *Row) string { return r.SaleID }}
	return &BulkInsert{
		oneSale: store.NewBulk(db, store.Layout[Row]{Table: Row{}.TableName(),
			Shared: append(shared[:len(shared):len(shared)], sale), Own: own}),
		manySales: store.NewBulk(db, store.Layout[Row]{Table: Row{}.TableName(),
			Shared: shared, Own: append(own[:len(own):len(own)], sale)}),
	}
}

// Prepare makes the statements ready, outside of a transaction.
func (b *BulkInsert) Prepare(ctx context.Context) error {
	return errors.Join(b.oneSale.Prepare(ctx), b.manySales.Prepare(ctx))
}

// Insert queues rows that are alike in event, channel and time. It returns once they are part of tx.
func (b *BulkInsert) Insert(tx *gorm.DB, rows []Row) error {
	bulk := b.oneSale
	for i := range rows {
		if rows[i].SaleID != rows[0].SaleID {
			bulk = b.manySales
			break
		}
	}
	if _, err := bulk.Insert(tx, rows); err != nil {
		return fmt.Errorf("queue %d notifications: %w", len(rows), err)
	}
	return nil
}
