package delay

import (
	"strings"
	"time"
)

// MaxBody bounds the bytes of a message's body.
const MaxBody = 16 << 10

// New is a message to add. It is due At, or after Delay when At is zero. A time in the past means at once.
type New struct {
	ID    string // unique within its topic: 1 to 128 letters, digits, '-', '_', '.' or ':'
	Delay time.Duration
	At    time.Time
	Body  []byte // JSON, at most MaxBody
	Event string // what it tells of, for filters; may be empty
	Sale  string // the sale it is about, for filters; may be empty
}

// The states of a message.
const (
	Pending   = "pending"
	Firing    = "firing"
	Retrying  = "retrying"
	Delivered = "delivered"
	Dead      = "dead"
	Cancelled = "cancelled"
	Dropped   = "dropped" // a dead letter that an operator gave up
)

// Message is a message as one subscription shows it. Times are by Redis' clock.
type Message struct {
	Topic, ID    string
	Subscription string
	State        string
	Attempts     int // begun
	Error        string
	AddedAt      time.Time
	FirstDue     time.Time
	DueAt        time.Time // of the next attempt, or while firing the lease's end; zero when dead or finished
	EndedAt      time.Time // zero until then
	Body         []byte    // nil once finished
	Event, Sale  string    // that it was added with; empty once finished, or added by an older version
	ReadErr      error     // why its record cannot be read; Error has the text
}

// Reserved reports whether an id is kept for order events, like o1:order.paid. Nobody can add it by hand.
func Reserved(id string) bool {
	_, _, ours := OrderEvent(id)
	return ours
}

// OrderEvent returns what a reserved id is made of.
func OrderEvent(id string) (order, event string, ours bool) {
	at := strings.LastIndex(id, ":order.")
	if at < 0 || strings.Trim(id[at+len(":order."):], "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "", "", false
	}
	return id[:at], id[at+1:], true
}

// LeastFinished returns the first of a message's copies that is not finished, else the first; the zero Message of none.
func LeastFinished(copies []Message) Message {
	var first Message
	for i, m := range copies {
		if m.EndedAt.IsZero() {
			return m
		}
		if i == 0 {
			first = m
		}
	}
	return first
}
