package notify

import (
	"context"
	"strings"
	"time"
)

// Channel is one way out, such as a webhook or the event stream.
//
// Deliver returns one Result per message, in the same order; a missing one counts as a failure to retry. It may be
// handed a message it has delivered before, with the same ID. It must return soon after ctx ends. The relay calls it
// from one goroutine, and a slow channel delays no other.
type Channel interface {
	// Name is at most 16 characters and never changes: rows are queued under it.
	Name() string
	Deliver(ctx context.Context, batch []Message) []Result
}

// Pausing is a Channel that may know its receiver to be down. While Pause is more than 0 the relay leaves its rows
// alone: a long backlog costs the database nothing.
type Pausing interface {
	Pause() time.Duration
}

// Wide is a Channel to which many messages cost little more than one. One delivery takes Width times notify.batch.
type Wide interface {
	Width() int
}

// Latest is a Channel that tells shoppers how their order stands. It is not told what a later event has made untrue,
// such as "confirmed" after the order has expired. Channels that other systems read get every event.
type Latest interface {
	Latest() bool
}

// Message is what a channel delivers. It carries no e-mail address and no phone number.
type Message struct {
	OrderID   string
	Event     string
	SaleID    string
	UserID    string
	CreatedAt time.Time
	Attempt   int // 1 for the first delivery
}

// ID returns the same text in every delivery of this message, on every channel, so that receivers can drop repeats.
func (m Message) ID() string { return m.OrderID + ":" + m.Event }

// Recipient is whom a message is for and what it says of the order. It exists from the look-up to the end of one
// delivery. Neither the outbox nor a log ever holds it.
type Recipient struct {
	Email      string // empty: the shopper gave none
	Phone      string // E.164, with or without the plus; empty: none
	Locale     string // BCP 47; empty: notify.locale
	SaleTitle  string
	Status     string
	Reason     string
	Refund     string // why the first payment to refund must go back: late, again, ended or amount; empty: none
	Quantity   int
	PriceCents int64 // of one unit
	Currency   string
	PayBy      time.Time // zero: no deadline
}

// Overtook says why a message about this event is no longer true, "" while it is. That money must go back stays true
// whatever becomes of the order.
func (r Recipient) Overtook(event string) (why string) {
	status := strings.TrimPrefix(event, "order.")
	if event == EventRefundRequired || r.Status == "" || r.Status == status {
		return ""
	}
	return "not sent: the order is " + r.Status + " by now"
}

// Recipients looks up orders; unknown ones are absent from the answer. It must be safe for concurrent use.
type Recipients func(ctx context.Context, orderIDs []string) (map[string]Recipient, error)
