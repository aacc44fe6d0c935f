package notify

import (
	"context"
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

// Recipients looks up orders; unknown ones are absent from the answer. It must be safe for concurrent use.
type Recipients func(ctx context.Context, orderIDs []string) (map[string]Recipient, error)

// masked shows the last two digits of a phone number: enough to tell two test phones apart, too little to call anybody.
func masked(phone string) string {
	if len(phone) < 8 {
		return "***"
	}
	return "***" + phone[len(phone)-2:]
}
