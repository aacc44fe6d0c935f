package queue

import (
	"strings"
	"time"
)

// State is where an order stands, as the line knows it.
type State byte

// The states of a record. Queued covers everything from admission until the
// order exists or has failed; the line tells waiting from being worked on by
// the ticket's sequence.
const (
	Queued    State = 'q'
	Confirmed State = 'c'
	Paid      State = 'p'
	Failed    State = 'f'
	Cancelled State = 'x'
	Expired   State = 'e'
)

// sold reports whether the order has units of the ledger.
func (s State) sold() bool { return s == Confirmed || s == Paid }

// Valid reports whether s is one of the states.
func (s State) Valid() bool { return strings.IndexByte("qcpfxe", byte(s)) >= 0 }

// Ticket is one admitted request: what the line remembers of an order.
type Ticket struct {
	ID, User     string
	State        State
	Seq          int64 // place in the order of admission, from 1
	Units        int
	Slot         int // which of the user's slots it takes, from 1
	AdmittedAt   time.Time
	Fingerprint  string    // of the request's payload
	Position     int64     // place in line when admitted, from 1
	ETASeconds   int64     // expected wait when admitted
	At           time.Time // when it was confirmed or ended; zero while queued
	PayBy        time.Time // of a confirmed order: when it must be paid; zero means never
	PaidAt       time.Time // of a paid order
	Reason       string    // why it failed
	Email, Phone string    // empty once it is confirmed or ended
	Locale       string    // as Email
	Refund       bool      // a payment of the order must go back
	By           int64     // number of the instance that admitted it; 0: not known, or no longer
	EndedBy      int64     // of the one that cancelled it in the line; 0: not known
	Attempts     int       // how often it failed by its own fault; known on claimed suspects only
	Held         bool      // cancelled, and its units and slot return when that is written down
	Mark         int64     // of a dead letter that came back: the sequence drawn then; 0: it never died
}
