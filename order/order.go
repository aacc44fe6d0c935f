// Package order owns the orders: their states, their table with the one road into it, and cancelling. The transaction
// that turns tickets into orders is here. What else is done with an order has a package of its own below this one.
package order

import (
	"time"

	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// Row is an order in the database. Times are unix milliseconds.
//
// A new field belongs into one of the groups of columns below, and is filled by NewRow or by row. What is shown of it
// goes through View.
type Row struct {
	ID          string `gorm:"primaryKey"`
	SaleID      string
	UserID      string
	Slot        *int // which of the user's slots it holds; nil once it holds none
	Quantity    int
	PriceCents  int64
	Currency    string
	Status      string
	Reason      string
	Email       string
	Phone       string
	Seq         int64
	Epoch       int64
	BatchID     string // which delivery inserted it
	Fingerprint string
	Position    int64 // as first answered, for a repeated request
	ETASeconds  int64 `gorm:"column:eta_seconds"`
	Released    int   // 0: its units have yet to return to the line
	AdmittedAt  int64
	ConfirmedAt int64
	EndedAt     int64
	PayBy       int64  // 0: it need not be paid
	PaidAt      int64  // 0 until it is paid
	LateSeq     int64  // the line's sequence when a late payment took its units again; 0: never
	Locale      string // in which its owner is notified
	Fence       int64  // how often a worker has given its units back after they were taken again
	AdmittedBy  int64  // number of the instance that admitted it; 0: not known
	EndedBy     int64  // of the one that cancelled or expired it
	Refund      string // why the first payment that must go back must; empty: none
}

// TableName names the table for GORM.
func (Row) TableName() string { return "orders" }

// runFields returns the columns that are alike in all orders that one run of a transaction confirms.
func runFields() []store.Field[Row] {
	return []store.Field[Row]{
		text("batch_id", func(r *Row) string { return r.BatchID }),
		text("status", func(r *Row) string { return r.Status }),
		number("confirmed_at", func(r *Row) int64 { return r.ConfirmedAt }),
		number("pay_by", func(r *Row) int64 { return r.PayBy }),
	}
}

// saleFields returns the columns that are alike in all orders that one sale's batch makes.
func saleFields() []store.Field[Row] {
	return []store.Field[Row]{
		text("sale_id", func(r *Row) string { return r.SaleID }),
		text("currency", func(r *Row) string { return r.Currency }),
		number("price_cents", func(r *Row) int64 { return r.PriceCents }),
		number("epoch", func(r *Row) int64 { return r.Epoch }),
	}
}

// ticketFields returns the columns that are each order's own.
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

// slotField returns the column of the slot that every new order holds. One that has ended holds none.
func slotField() store.Field[Row] {
	return number("slot", func(r *Row) int64 {
		if r.Slot == nil {
			return 0
		}
		return int64(*r.Slot)
	})
}

// contactFields returns the columns of what few owners give.
func contactFields() []store.Field[Row] {
	return []store.Field[Row]{
		text("email", func(r *Row) string { return r.Email }),
		text("phone", func(r *Row) string { return r.Phone }),
	}
}

// endFields returns the columns of how an order ended, was paid or came back. A new order has their defaults.
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

// NewRow returns the part of a row that every ticket and its sale say. Callers add what became of the ticket.
func NewRow(sale inventory.Sale, epoch int64, t *queue.Ticket) Row {
	return Row{ID: t.ID, SaleID: sale.ID, UserID: t.User, Quantity: t.Units, PriceCents: sale.PriceCents,
		Currency: sale.Currency, Seq: t.Seq, Epoch: epoch, Fingerprint: t.Fingerprint, Position: t.Position,
		ETASeconds: t.ETASeconds, Released: 1, AdmittedAt: t.AdmittedAt.UnixMilli()}
}

// row returns the row of a ticket: an order, or what it ended as in the line.
func (c claim) row(t *queue.Ticket, s stamp) Row {
	r := NewRow(c.sale, c.epoch, t)
	r.Slot, r.Status, r.BatchID, r.ConfirmedAt, r.PayBy = &t.Slot, Confirmed, s.tag, s.now.UnixMilli(), s.payBy
	r.Email, r.Phone, r.Locale = t.Email, t.Phone, t.Locale
	r.AdmittedBy, r.EndedBy, r.LateSeq = t.By, t.EndedBy, t.Mark
	if t.Refund { // the line knows no more than that one must: it came when the order had ended
		r.Refund = RefundEnded
	}
	if t.State != queue.Queued {
		r.End(StatusOf(t.State), t.Reason, t.At.UnixMilli())
	}
	return r
}

// End makes a row one of an order that has ended. It holds no slot, and its units are not in the ledger.
func (r *Row) End(status, reason string, at int64) {
	r.Slot, r.Status, r.Reason, r.EndedAt = nil, status, reason, at
	r.ConfirmedAt, r.PayBy, r.PaidAt = 0, 0, 0
}

// View returns what its owner and operators see of the order.
func (r Row) View() View {
	v := View{ID: r.ID, SaleID: r.SaleID, User: r.UserID, Status: r.Status, Reason: r.Reason, Quantity: r.Quantity,
		PriceCents: r.PriceCents, Currency: r.Currency, AdmittedAt: Time(r.AdmittedAt),
		ConfirmedAt: Time(r.ConfirmedAt), EndedAt: Time(r.EndedAt), PaidAt: Time(r.PaidAt), Refund: r.Refund != "",
		AdmittedBy: r.AdmittedBy}
	if r.Status == Confirmed {
		v.PayBy = Time(r.PayBy)
	}
	return v
}

// View is an order as its owner and operators see it.
type View struct {
	ID, SaleID, User string
	Status, Reason   string
	Quantity         int
	PriceCents       int64
	Currency         string
	Position         int64 // tickets before it, itself included; 0 unless queued
	AdmittedAt       time.Time
	ConfirmedAt      time.Time
	EndedAt          time.Time
	PayBy            time.Time // while it is confirmed; zero when it need not be paid
	PaidAt           time.Time
	Refund           bool  // a payment of it must go back
	AdmittedBy       int64 // number of the instance that admitted it; 0: not known
}

// Final reports whether nothing more is to be expected. The order has ended, is paid, or is confirmed and need not be
// paid.
func (v View) Final() bool {
	return v.LeftLine() && (v.Status != Confirmed || v.PayBy.IsZero())
}

// LeftLine reports whether the order has left the line.
func (v View) LeftLine() bool { return v.Status != Queued && v.Status != Processing }

// ViewTicket shows a ticket; claimed is the sequence up to which the line has given tickets to workers.
func ViewTicket(sale string, t queue.Ticket, claimed int64) View {
	v := View{ID: t.ID, SaleID: sale, User: t.User, Status: StatusOf(t.State), Reason: t.Reason, Quantity: t.Units,
		AdmittedAt: t.AdmittedAt, Refund: t.Refund, AdmittedBy: t.By}
	switch {
	case t.State == queue.Queued && t.Seq > claimed:
		v.Position = t.Seq - claimed
	case t.State == queue.Queued:
		v.Status = Processing
	case t.State == queue.Confirmed || t.State == queue.Paid:
		v.ConfirmedAt, v.PayBy, v.PaidAt = t.At, t.PayBy, t.PaidAt
	default:
		v.EndedAt = t.At
	}
	return v
}

// News returns the outbox rows of an event of the order, one for each channel.
func (r Row) News(event string, channels []string, now time.Time) []notify.Row {
	rows := make([]notify.Row, len(channels))
	for i, channel := range channels {
		rows[i] = notify.Row{OrderID: r.ID, Event: event, Channel: channel, SaleID: r.SaleID, UserID: r.UserID,
			CreatedAt: now.UnixMilli()}
	}
	return rows
}
