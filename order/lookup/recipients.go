package lookup

import (
	"context"
	"fmt"
	"slices"

	"sluice/notify"
	"sluice/order"
	"sluice/queue"
)

// facts are the columns of notify.Facts. Times are unix milliseconds, 0 for none.
type facts struct {
	ID          string
	Status      string
	Reason      string
	Refund      string
	Quantity    int
	PriceCents  int64
	Currency    string
	AdmittedAt  int64
	ConfirmedAt int64
	EndedAt     int64
	PayBy       int64
	PaidAt      int64
}

// factColumns returns the columns of facts.
func factColumns() []string {
	return []string{"orders.id", "orders.status", "orders.reason", "orders.refund", "orders.quantity",
		"orders.price_cents", "orders.currency", "orders.admitted_at", "orders.confirmed_at", "orders.ended_at",
		"orders.pay_by", "orders.paid_at"}
}

func (f facts) told() notify.Facts {
	return notify.Facts{Status: f.Status, Reason: f.Reason, Refund: f.Refund, Quantity: f.Quantity,
		PriceCents: f.PriceCents, Currency: f.Currency, AdmittedAt: order.Time(f.AdmittedAt),
		ConfirmedAt: order.Time(f.ConfirmedAt), EndedAt: order.Time(f.EndedAt), PayBy: order.Time(f.PayBy),
		PaidAt: order.Time(f.PaidAt)}
}

// contact is what a notification needs of an order and its sale.
type contact struct {
	Known  facts `gorm:"embedded"`
	Email  string
	Phone  string
	Title  string
	Locale string
}

// Recipients implements notify.Recipients.
func (f *Finder) Recipients(ctx context.Context, ids []string) (map[string]notify.Recipient, error) {
	var rows []contact
	err := f.db.Read.WithContext(ctx).Table("orders").Joins("JOIN sales ON sales.id = orders.sale_id").
		Where("orders.id IN ?", ids).
		Select(append(factColumns(), "orders.email", "orders.phone", "sales.title", "orders.locale")).
		Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("look up the recipients of %d orders: %w", len(ids), err)
	}
	recipients := make(map[string]notify.Recipient, len(rows))
	for _, r := range rows {
		recipients[r.Known.ID] = notify.Recipient{Facts: r.Known.told(), Email: r.Email, Phone: r.Phone,
			Locale:    r.Locale,
			SaleTitle: r.Title}
	}
	return recipients, nil
}

// factsChunk is how many orders one statement looks up: what plans well on every database.
const factsChunk = 1000

// Facts implements notify.Ledger.
func (f *Finder) Facts(ctx context.Context, ids []string) (map[string]notify.Facts, error) {
	found := make(map[string]notify.Facts, len(ids))
	for some := range slices.Chunk(ids, factsChunk) {
		var rows []facts
		err := f.db.Read.WithContext(ctx).Table("orders").Where("orders.id IN ?", some).Select(factColumns()).
			Find(&rows).Error
		if err != nil {
			return nil, fmt.Errorf("look up %d orders for their events: %w", len(some), err)
		}
		for _, r := range rows {
			found[r.ID] = r.told()
		}
	}
	return found, nil
}

// Placed returns those orders of a sale that the database knows, as they were answered when they were placed. Each
// has its owner, the fingerprint of the request, and the place and wait of the answer.
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
