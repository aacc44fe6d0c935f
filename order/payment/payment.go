package order

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice/notify/webhook"
)

// PaymentConfig says whether confirmed orders must be paid, and how soon.
// Payments are on when there is a secret; without one an order that has been
// confirmed stays so.
type PaymentConfig struct {
	Timeout time.Duration `koanf:"timeout"` // from the confirmation to the end of an unpaid order; 1s to 24h
	// Secret are the keys of the provider's signatures, whsec_ and base64 of 24
	// to 64 bytes each; any of them is good, so that they can be changed.
	Secret []string `koanf:"secret"`
}

// DefaultPaymentConfig holds the documented defaults.
func DefaultPaymentConfig() PaymentConfig { return PaymentConfig{Timeout: 15 * time.Minute} }

// On reports whether orders must be paid.
func (c PaymentConfig) On() bool { return len(c.Secret) > 0 }

// Deadline is how long an order may stay unpaid; 0 when it need not be paid.
func (c PaymentConfig) Deadline() time.Duration {
	if !c.On() {
		return 0
	}
	return c.Timeout
}

const mostSecrets = 8

// Validate returns every bad value, each named by its key; a secret is never shown.
func (c PaymentConfig) Validate() error {
	var errs []error
	if c.Timeout < time.Second || c.Timeout > 24*time.Hour {
		errs = append(errs, fmt.Errorf("payment.timeout must be between 1s and 24h, got %s", c.Timeout))
	}
	if len(c.Secret) > mostSecrets {
		errs = append(errs, fmt.Errorf("payment.secret has %d secrets, %d are allowed", len(c.Secret), mostSecrets))
	}
	if _, err := webhook.NewVerifier(time.Now, c.Secret...); c.On() && err != nil {
		errs = append(errs, fmt.Errorf("payment.secret: %w", err))
	}
	return errors.Join(errs...)
}

// Payment is what the provider tells of one payment.
type Payment struct {
	ID          string // the provider's own; 1 to 128 bytes
	AmountCents int64
	Currency    string
	PaidAt      time.Time // by the provider's clock; zero when it does not say
}

// ValidPaymentID reports whether id is 1 to 128 printable ASCII characters.
func ValidPaymentID(id string) bool {
	return id != "" && len(id) <= 128 && strings.IndexFunc(id, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// What becomes of a payment.
const (
	PaymentAccepted = "accepted"        // the order is paid
	PaymentLate     = "late"            // it came after the deadline, and the order is paid all the same
	PaymentRefund   = "refund_required" // nothing is left to pay for: the money must go back
	PaymentMismatch = "mismatch"        // not what the order costs: it pays for nothing, and the money must go back
)

// PaymentOutcomes lists them.
func PaymentOutcomes() []string {
	return []string{PaymentAccepted, PaymentLate, PaymentRefund, PaymentMismatch}
}

// Why a payment must go back, as an order's row keeps it.
const (
	RefundLate   = "late"   // the order had expired and nothing was left for it
	RefundAgain  = "again"  // the order was paid before
	RefundEnded  = "ended"  // the order was cancelled or had failed
	RefundAmount = "amount" // not what the order costs
)

// refundOf is why a payment for an order as it stands must go back; empty when
// it need not.
func refundOf(row Row, outcome string) string {
	switch {
	case outcome == PaymentMismatch:
		return RefundAmount
	case outcome != PaymentRefund:
		return ""
	case row.Status == Paid:
		return RefundAgain
	case row.Status == Expired:
		return RefundLate
	}
	return RefundEnded
}

// Errors of payments, beside ErrNotFound and ErrBusy.
var (
	ErrUnconfirmed     = errors.New("the order is not confirmed yet: it cannot be paid before")
	ErrPaymentConflict = errors.New("this payment_id came before for another order or amount")
)

// PaymentRow is a payment in the database. Times are unix milliseconds.
type PaymentRow struct {
	PaymentID   string `gorm:"primaryKey"`
	OrderID     string
	SaleID      string
	AmountCents int64
	Currency    string
	Outcome     string
	PaidAt      int64
	ReceivedAt  int64
	TakenBy     int64 // number of the instance that took it; 0: not known
	ExpiredAt   int64 // of a late payment: when its order had expired
	ExpiredBy   int64 // and which instance had ended it
}

// TableName names the table for GORM.
func (PaymentRow) TableName() string { return "payments" }

// repeats reports whether p is the same payment for the same order again.
func (r PaymentRow) repeats(order string, p Payment) bool {
	return r.OrderID == order && r.AmountCents == p.AmountCents && r.Currency == p.Currency
}

// Paying is the answer to a payment.
type Paying struct {
	Order    View
	Outcome  string // accepted, late, refund_required or mismatch
	Repeated bool   // the same payment had come before: this is what became of it
}

// Refund reports whether the money must go back.
func (p Paying) Refund() bool { return mustGoBack(p.Outcome) }

func mustGoBack(outcome string) bool { return outcome == PaymentRefund || outcome == PaymentMismatch }
