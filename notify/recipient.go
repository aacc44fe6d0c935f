package notify

import (
	"context"
	"strings"
	"time"
)

// Recipient is who an order's news is for, and what it is about. It exists from the lookup to the end of one delivery: neither
// the outbox nor a log ever holds it.
type Recipient struct {
	Email      string // empty: the shopper gave none
	Phone      string // E.164, with or without the plus; empty: none
	Locale     string // BCP 47; empty: Config.Locale
	SaleTitle  string
	Status     string
	Reason     string
	Refund     string // why the first payment that must go back must: late, again, ended or amount; empty: none
	Quantity   int
	PriceCents int64 // of one unit
	Currency   string
	PayBy      time.Time // zero: no deadline
}

// overtook says why news of an order is no longer true, "" while it is. That money must go back stays true whatever becomes of the
// order.
func (r Recipient) overtook(event string) (why string) {
	told := strings.TrimPrefix(event, "order.")
	if event == EventRefundRequired || r.Status == "" || r.Status == told {
		return ""
	}
	return "not sent: the order is " + r.Status + " by now"
}

// Recipients looks up orders; unknown ones are absent from the answer. It must be safe for concurrent use.
type Recipients func(ctx context.Context, orderIDs []string) (map[string]Recipient, error)

// masked shows the last two digits of a phone number: enough to tell two test phones apart, too little to call anybody.
func masked(phone string) string {
	if len(phone) < 8 {
		return "***"
	}
	return "***" + phone[len(phone)-2:]
}
