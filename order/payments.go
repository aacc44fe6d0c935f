package order

import (
	"strings"

	"gorm.io/gorm"
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

// PaymentOutcomes lists what becomes of payments.
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

// RefundPayment notes that the payment of an order must go back. Whoever pays back looks for that. Its provider reads
// it when it sends the payment again.
func RefundPayment(tx *gorm.DB, id string) error {
	paid := tx.Model(&PaymentRow{}).Where("order_id = ? AND outcome IN ?", id, []string{PaymentAccepted, PaymentLate})
	return paid.Update("outcome", PaymentRefund).Error
}
