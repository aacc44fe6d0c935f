// Package order owns the order: its states, the one transaction that turns
// tickets into orders, cancelling, and looking orders up wherever they are.
package order

import (
	"errors"
	"time"

	"sluice/queue"
)

// The states an order is shown in. Queued and Processing exist only in the
// line; every other state is a row of the database.
const (
	Queued     = "queued"
	Processing = "processing"
	Confirmed  = "confirmed"
	Paid       = "paid"
	Failed     = "failed"
	Cancelled  = "cancelled"
	Expired    = "expired"
)

// Statuses lists them.
func Statuses() []string {
	return []string{Queued, Processing, Confirmed, Paid, Failed, Cancelled, Expired}
}

// Reasons of failed orders.
const (
	ReasonSoldOut = "sold_out"
	ReasonLimit   = "limit_reached"
	ReasonGaveUp  = "internal_error"
)

// Errors of looking up and cancelling.
var (
	ErrNotFound       = errors.New("no such order")
	ErrNotCancellable = errors.New("the order can no longer be cancelled")
	ErrBusy           = errors.New("the order is being worked on: try again soon")
)

// Row is an order in the database. Times are unix milliseconds.
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
	Locale      string // of what its owner is told
	Fence       int64  // how often a worker has given its units back after they were taken again
	AdmittedBy  int64  // number of the instance that admitted it; 0: not known
	EndedBy     int64  // of the one that cancelled or expired it
	Refund      string // why the first payment that must go back must; empty: none
}

// TableName names the table for GORM.
func (Row) TableName() string { return "orders" }

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
	Refund           bool // a payment of it must go back

	admittedBy, endedBy int64 // numbers of instances; 0: not known
}

// Final reports whether nothing more is to be expected: the order has ended,
// is paid, or is confirmed and need not be paid.
func (v View) Final() bool {
	return v.LeftLine() && (v.Status != Confirmed || v.PayBy.IsZero())
}

// LeftLine reports whether the order has left the line.
func (v View) LeftLine() bool { return v.Status != Queued && v.Status != Processing }

func viewOfRow(r Row) View {
	v := View{ID: r.ID, SaleID: r.SaleID, User: r.UserID, Status: r.Status, Reason: r.Reason, Quantity: r.Quantity,
		PriceCents: r.PriceCents,
		Currency:   r.Currency, AdmittedAt: atMS(r.AdmittedAt), ConfirmedAt: atMS(r.ConfirmedAt),
		EndedAt: atMS(r.EndedAt), PaidAt: atMS(r.PaidAt),
		Refund: r.Refund != "", admittedBy: r.AdmittedBy, endedBy: r.EndedBy}
	if r.Status == Confirmed {
		v.PayBy = atMS(r.PayBy)
	}
	return v
}

// viewOfTicket shows a ticket; claimed is the sequence up to which the line
// has given tickets to workers.
func viewOfTicket(sale string, t queue.Ticket, claimed int64) View {
	v := View{ID: t.ID, SaleID: sale, User: t.User, Status: statusOf(t.State), Reason: t.Reason, Quantity: t.Units,
		AdmittedAt: t.AdmittedAt, Refund: t.Refund,
		admittedBy: t.By, endedBy: t.EndedBy}
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

func statusOf(s queue.State) string {
	switch s {
	case queue.Confirmed:
		return Confirmed
	case queue.Paid:
		return Paid
	case queue.Failed:
		return Failed
	case queue.Cancelled:
		return Cancelled
	case queue.Expired:
		return Expired
	}
	return Queued
}

func atMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
