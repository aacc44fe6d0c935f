package notify

import (
	"context"
	"time"
)

// Facts are what the database knows of an order. They contain nothing of its owner.
type Facts struct {
	Status     string // by now, which may be later than the event that is told
	Reason     string // why it failed
	Refund     string // why the first payment to refund must go back: late, again, ended or amount; empty: none
	Quantity   int
	PriceCents int64 // of one unit
	Currency   string
	// The times are zero where something has not happened, or is no longer so.
	AdmittedAt  time.Time
	ConfirmedAt time.Time
	EndedAt     time.Time // failed, cancelled or expired
	PayBy       time.Time // zero: no deadline
	PaidAt      time.Time
}

// Ledger looks up what the database knows of orders; the result lacks those that do not exist. It must be safe for
// concurrent use.
type Ledger func(ctx context.Context, orderIDs []string) (map[string]Facts, error)
