package lookup

import (
	"context"
	"fmt"

	"sluice/notify"
	"sluice/order"
	"sluice/queue"
)

// contact is what a notification needs of an order and its sale.
type contact struct {
	ID         string
	Email      string
	Phone      string
	Title      string
	Status     string
	Reason     string
	Refund     string
	Quantity   int
	PriceCents int64
	Currency   string
	Locale     string
	PayBy      int64 // unix ms; 0: no deadline
}

// Recipients implements notify.Recipients.
func (f *Finder) Recipients(ctx context.Context, ids []string) (map[string]notify.Recipient, error) {
	var rows []contact
	err := f.db.Read.WithContext(ctx).Table("orders").Joins("JOIN sales ON sales.id = orders.sale_id").
		Where("orders.id IN ?", ids).
		Select("orders.id", "orders.email", "orders.phone", "sales.title", "orders.status", "orders.reason",
			"orders.refund", "orders.quantity", "orders.price_cents", "orders.currency",
			"orders.locale", "orders.pay_by").
		Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("look up the recipients of %d orders: %w", len(ids), err)
	}
	recipients := make(map[string]notify.Recipient, len(rows))
	for _, r := range rows {
		recipients[r.ID] = notify.Recipient{Email: r.Email, Phone: r.Phone, SaleTitle: r.Title, Status: r.Status,
			Reason: r.Reason, Refund: r.Refund, Quantity: r.Quantity, PriceCents: r.PriceCents,
			Currency: r.Currency, Locale: r.Locale,
			PayBy: order.Time(r.PayBy)}
	}
	return recipients, nil
}

// Placed returns those of the orders of a sale that the database knows, as they were answered when they were placed.
// Each has its owner, the fingerprint of the request, and the place and wait of the answer.
func (f *Finder) Placed(ctx context.Context, sale string, ids []string) (map[string]queue.Ticket, error) {
	var rows []order.Row
	err := f.db.Read.WithContext(ctx).Where("id IN ? AND sale_id = ?", ids, sale).
		Select("id", "user_id", "seq", "quantity", "fingerprint", "position", "eta_seconds", "admitted_at").
		Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("look for %d repeated orders of %s: %w", len(ids), sale, err)
	}
	placed := make(map[string]queue.Ticket, len(rows))
	for _, r := range rows {
		placed[r.ID] = queue.Ticket{ID: r.ID, User: r.UserID, Seq: r.Seq, Units: r.Quantity, Fingerprint: r.Fingerprint,
			Position: r.Position, ETASeconds: r.ETASeconds, AdmittedAt: order.Time(r.AdmittedAt)}
	}
	return placed, nil
}
