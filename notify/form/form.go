// Package form writes events of orders as other systems read them: in one numbered form on every channel.
package form

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"sluice/notify"
)

// Version is the number of the form. It grows when a field changes its meaning or goes; new fields alone leave it as
// it is.
const Version = 1

// Event is an order's event as the body of a call, or of a message. It contains no e-mail address and no phone number.
type Event struct {
	Type      string `json:"type"`
	Version   int    `json:"version,omitempty"`
	Timestamp string `json:"timestamp"` // of the event
	Data      Data   `json:"data"`
}

// Data names an order and says what is known of it.
type Data struct {
	OrderID string `json:"order_id"`
	SaleID  string `json:"sale_id"`
	UserID  string `json:"user_id"`
	*Facts         // nil: the database does not know the order any more
}

// Facts are what an event says of its order, as it was when the event happened. Times are as FormatTime writes them.
type Facts struct {
	Status      string `json:"status"`
	Reason      string `json:"reason,omitempty"`
	Refund      string `json:"refund,omitempty"`
	Quantity    int    `json:"quantity"`
	PriceCents  int64  `json:"price_cents"` // of one unit
	Currency    string `json:"currency"`
	AdmittedAt  string `json:"admitted_at,omitempty"`
	ConfirmedAt string `json:"confirmed_at,omitempty"`
	PayBy       string `json:"pay_by,omitempty"`
	PaidAt      string `json:"paid_at,omitempty"`
	EndedAt     string `json:"ended_at,omitempty"`
}

// timeFormat is RFC 3339 in UTC with milliseconds, as in all bodies of the API.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// FormatTime writes a moment as all forms do; the zero time is empty.
func FormatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// Of returns the event that a message tells of. The same message gives the same event at every delivery, whatever has
// become of the order by then.
func Of(m notify.Message, order notify.Facts) Event {
	e := Bare(m)
	e.Version, e.Timestamp, e.Data.Facts = Version, FormatTime(m.CreatedAt), factsOf(m, order)
	return e
}

// Bare returns the event of an order that the database does not know. It is also what topics got before version 1, to
// the byte.
func Bare(m notify.Message) Event {
	return Event{Type: m.Event, Timestamp: m.CreatedAt.UTC().Format(time.RFC3339Nano),
		Data: Data{OrderID: m.OrderID, SaleID: m.SaleID, UserID: m.UserID}}
}

// In returns the event of a message whose order is in the ledger, or else the bare one.
func In(ledger map[string]notify.Facts, m notify.Message) Event {
	if order, known := ledger[m.OrderID]; known {
		return Of(m, order)
	}
	return Bare(m)
}

// factsOf returns what was so when the event happened. An order may have gone on since: what came later is left out.
func factsOf(m notify.Message, order notify.Facts) *Facts {
	f := &Facts{Status: statusAt(m, order), Quantity: order.Quantity, PriceCents: order.PriceCents,
		Currency: order.Currency, AdmittedAt: FormatTime(order.AdmittedAt)}
	if f.Status != failed {
		f.ConfirmedAt, f.PayBy = FormatTime(order.ConfirmedAt), FormatTime(order.PayBy)
	}
	if m.Event == notify.EventRefundRequired {
		f.Refund = order.Refund
	}
	switch f.Status {
	case confirmed:
		f.ConfirmedAt = FormatTime(either(order.ConfirmedAt, m.CreatedAt))
	case paid:
		f.PaidAt = FormatTime(either(order.PaidAt, m.CreatedAt))
	case cancelled: // for good
		f.EndedAt = FormatTime(either(order.EndedAt, m.CreatedAt))
	case failed:
		// Only what was given up comes back, and then its row has neither reason nor end.
		f.Reason, f.EndedAt = cmp.Or(order.Reason, gaveUp), FormatTime(m.CreatedAt)
	case expired:
		f.EndedAt = FormatTime(either(until(order.EndedAt, m.CreatedAt), m.CreatedAt))
	}
	return f
}

// The states and reasons of orders, as package order spells them.
const (
	confirmed = "confirmed"
	paid      = "paid"
	failed    = "failed"
	cancelled = "cancelled"
	expired   = "expired"

	gaveUp = "internal_error"

	refundLate  = "late"
	refundAgain = "again"
	refundEnded = "ended"
)

// statusAt returns the state of the order when the event happened.
func statusAt(m notify.Message, order notify.Facts) string {
	if m.Event != notify.EventRefundRequired {
		return strings.TrimPrefix(m.Event, "order.")
	}
	ended := slices.Contains([]string{failed, cancelled, expired}, order.Status)
	switch {
	case order.Refund == refundLate:
		return expired
	case order.Refund == refundAgain:
		return paid
	case order.Refund == refundEnded && order.Status == cancelled:
		return cancelled
	case order.Refund == refundEnded: // it may have come back since
		return failed
	case ended && !until(order.EndedAt, m.CreatedAt).IsZero():
		return order.Status
	case !until(order.PaidAt, m.CreatedAt).IsZero():
		return paid
	}
	return confirmed
}

// either returns the first time that is not zero.
func either(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

// until returns t unless it is later than last, and then the zero time.
func until(t, last time.Time) time.Time {
	if t.After(last) {
		return time.Time{}
	}
	return t
}
