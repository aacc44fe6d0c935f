// Package order owns the orders: their states, their table with the one road into it, the transaction that turns
// tickets into them, and cancelling. What else is done with an order has a package of its own below this one.
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

// Statuses lists the states.
func Statuses() []string {
	return []string{Queued, Processing, Confirmed, Paid, Failed, Cancelled, Expired}
}

// Reasons of failed orders.
const (
	ReasonSoldOut = "sold_out"
	ReasonLimit   = "limit_reached"
	ReasonGaveUp  = "internal_error"
)

// Errors of looking up and changing orders.
var (
	ErrNotFound       = errors.New("no such order")
	ErrNotCancellable = errors.New("the order can no longer be cancelled")
	ErrBusy           = errors.New("the order is being worked on: try again soon")
)

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

// Final reports whether nothing more is to be expected: the order has ended,
// is paid, or is confirmed and need not be paid.
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

// StatusOf returns the state that a ticket's state is shown as.
func StatusOf(s queue.State) string {
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

// Time returns the time that a row holds as unix milliseconds: the zero time for 0.
func Time(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Millis is the inverse of Time.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
