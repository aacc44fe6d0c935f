package notify

import (
	"context"
	"strings"
	"time"
)

// Channel is one way out for events, such as a webhook or the event stream.
//
// Deliver returns one Result per message, in the same order; a missing one counts as a failure to retry. It may get a
// message again that it has delivered before, with the same ID. It must return soon after ctx ends. The relay calls it
// from one goroutine; a slow channel delays no other.
type Channel interface {
	// Name is at most 16 characters and never changes: rows are queued under it.
	Name() string
	Deliver(ctx context.Context, batch []Message) []Result
}

// Pausing is a Channel that knows when its receiver is down. While Pause is more than 0, the relay does not read the
// channel's rows. So a long backlog costs the database nothing.
type Pausing interface {
	Pause() time.Duration
}

// Wide is a Channel to which many messages cost little more than one. One delivery takes Width times notify.batch.
type Wide interface {
	Width() int
}

// Latest is a Channel that tells shoppers how their order stands. It does not get what a later event has made untrue,
// such as "confirmed" after the order has expired. Channels that other systems read get every event.
type Latest interface {
	Latest() bool
}

// Message is what a channel delivers. It contains no e-mail address and no phone number.
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

// Recipient is who gets a message, and what the message says of the order. It exists from the look-up to the end of one
// delivery. It is never written to the outbox or a log.
type Recipient struct {
	Facts
	Email     string // empty: the shopper gave none
	Phone     string // E.164, with or without the plus; empty: none
	Locale    string // BCP 47; empty: notify.locale
	SaleTitle string
}

// Overtook says why a message about this event is no longer true, or "" while it is. That money must go back stays true
// whatever the order's later state.
func (r Recipient) Overtook(event string) (why string) {
	status := strings.TrimPrefix(event, "order.")
	if event == EventRefundRequired || r.Status == "" || r.Status == status {
		return ""
	}
	return "not sent: the order is " + r.Status + " by now"
}

// Recipients looks up orders; the result lacks those that do not exist. It must be safe for concurrent use.
type Recipients func(ctx context.Context, orderIDs []string) (map[string]Recipient, error)

// Flowing is a Channel with workers of its own. Each takes the next message as soon as it is free. So nobody waits
// for the slowest of a batch.
type Flowing interface {
	// Workers is how many messages are sent at once; 0: the relay calls Deliver with whole batches.
	Workers() int
	// Room is how many more messages could be begun within the time of a delivery.
	Room(within time.Duration) int
	// Begin prepares a batch. The returned send hands it to the workers and returns when the last message has one.
	// report must be called once for each message, with its place in the batch, as soon as its result is known. Any
	// goroutine may call it. The relay calls Begin from one goroutine, and send from one.
	Begin(ctx context.Context, batch []Message, report func(place int, r Result)) (send func())
}
