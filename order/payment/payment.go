package payment

import (
	"errors"
	"time"

	"sluice/order"
	"sluice/queue"
)

// Payment is what the provider says of one payment.
type Payment struct {
	ID          string // the provider's own; 1 to 128 bytes
	AmountCents int64
	Currency    string
	PaidAt      time.Time // by the provider's clock; zero when it does not say
}

// repeats reports whether p is the payment of a row again, for the same order.
func (p Payment) repeats(r order.PaymentRow, id string) bool {
	return r.OrderID == id && r.AmountCents == p.AmountCents && r.Currency == p.Currency
}

// matches reports whether p is what the order costs.
func (p Payment) matches(row order.Row) bool {
	return p.AmountCents == row.PriceCents*int64(row.Quantity) && p.Currency == row.Currency
}

// row returns the row of a payment that does what d says to an order as it stands.
func (p Payment) row(of order.Row, d decision, now time.Time) order.PaymentRow {
	row := order.PaymentRow{PaymentID: p.ID, OrderID: of.ID, SaleID: of.SaleID, AmountCents: p.AmountCents,
		Currency: p.Currency, Outcome: d.outcome, PaidAt: order.Millis(p.PaidAt), ReceivedAt: now.UnixMilli()}
	if d.reclaimed != nil {
		row.ExpiredAt, row.ExpiredBy = of.EndedAt, of.EndedBy
	}
	return row
}

// Errors of payments, beside order.ErrNotFound and order.ErrBusy.
var (
	ErrUnconfirmed = errors.New("the order is not confirmed yet: it cannot be paid before")
	ErrConflict    = errors.New("this payment_id came before for another order or amount")
)

// Result is the answer to a payment.
type Result struct {
	Order    order.View
	Outcome  string // accepted, late, refund_required or mismatch
	Repeated bool   // the same payment had come before: this is what became of it
}

// Refund reports whether the money must go back.
func (r Result) Refund() bool { return mustGoBack(r.Outcome) }

func mustGoBack(outcome string) bool {
	return outcome == order.PaymentRefund || outcome == order.PaymentMismatch
}

// decision is what a payment does.
type decision struct {
	outcome   string
	changes   map[string]any       // to the order; nil leaves it as it is
	reclaimed *queue.ReclaimedUnit // whose units must come out of the ledger
}

// errLate sends an order that has expired to payLate.
var errLate = errors.New("the order has expired")

// payInTime decides on a payment for an order as it stands. One that is overdue still holds its units until somebody
// has ended it: it is paid.
func payInTime(row order.Row, now time.Time) (decision, error) {
	switch row.Status {
	case order.Confirmed:
		d := decision{outcome: order.PaymentAccepted,
			changes: map[string]any{"status": order.Paid, "paid_at": now.UnixMilli()}}
		if row.PayBy > 0 && row.PayBy <= now.UnixMilli() {
			d.outcome = order.PaymentLate
		}
		return d, nil
	case order.Expired:
		return decision{}, errLate
	}
	return decision{outcome: order.PaymentRefund}, nil
}

// refundReason returns why a payment for an order as it stands must go back; empty when it need not.
func refundReason(row order.Row, outcome string) string {
	switch {
	case outcome == order.PaymentMismatch:
		return order.RefundAmount
	case outcome != order.PaymentRefund:
		return ""
	case row.Status == order.Paid:
		return order.RefundAgain
	case row.Status == order.Expired:
		return order.RefundLate
	}
	return order.RefundEnded
}
