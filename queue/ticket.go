package queue

import (
	"fmt"
	"strconv"
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

const (
	recordFields = 15 // and one more, refundMark, where a payment must go back
	// what an older version wrote, and may still stand in the line when this one starts
	oldFields  = 13
	refundMark = "r"
	heldReason = "held"
)

// ParseTicket reads a record. It fails on anything that no script writes.
func ParseTicket(id, record string) (Ticket, error) {
	record, refund := strings.CutSuffix(record, "\t"+refundMark)
	f, n := fieldsOf(record)
	if n != recordFields && (n != oldFields || refund) || len(f[0]) != 1 || !State(f[0][0]).Valid() {
		return Ticket{}, fmt.Errorf("ticket %s: its record is not one: %q", id, record)
	}
	t := Ticket{ID: id, State: State(f[0][0]), User: f[4], Fingerprint: f[6], Reason: f[10], Email: f[11], Phone: f[12], Locale: f[13], Refund: refund}
	var admitted, at, pay, units, slot int64
	atOr, payOr, who := &at, &pay, ""
	switch t.State {
	case Queued:
		atOr, payOr = &t.Mark, &t.By
	case Cancelled:
		payOr, who, t.Locale = &t.By, t.Locale, ""
		if t.Held = t.Reason == heldReason; t.Held {
			t.Reason = ""
		}
	}
	for _, n := range []struct {
		text string
		to   *int64
	}{{who, &t.EndedBy}, {f[1], &t.Seq}, {f[2], &units}, {f[3], &slot}, {f[5], &admitted}, {f[7], &t.Position}, {f[8], &t.ETASeconds}, {f[9], atOr}, {f[14], payOr}} {
		if n.text == "" {
			continue
		}
		v, err := strconv.ParseInt(n.text, 10, 64)
		if err != nil || v < 0 {
			return Ticket{}, fmt.Errorf("ticket %s: %q in its record is not a number", id, n.text)
		}
		*n.to = v
	}
	if units < 1 || slot < 1 || t.Seq < 1 || t.User == "" {
		return Ticket{}, fmt.Errorf("ticket %s: its record lacks a unit, slot, sequence or user", id)
	}
	t.Units, t.Slot, t.AdmittedAt = int(units), int(slot), time.UnixMilli(admitted).UTC()
	if at > 0 {
		t.At = time.UnixMilli(at).UTC()
	}
	switch {
	case pay == 0:
	case t.State == Confirmed:
		t.PayBy = time.UnixMilli(pay).UTC()
	case t.State == Paid:
		t.PaidAt = time.UnixMilli(pay).UTC()
	}
	return t, nil
}

// fieldsOf cuts a record and counts its fields, more than there should be included.
func fieldsOf(record string) (f [recordFields]string, n int) {
	for rest, more := record, true; more; n++ {
		var field string
		if field, rest, more = strings.Cut(rest, "\t"); n < len(f) {
			f[n] = field
		}
	}
	return f, n
}

// Record returns the record of a ticket, as ParseTicket reads it.
func (t Ticket) Record() string {
	at, pay, locale := msOrEmpty(t.At), msOrEmpty(t.PayBy), t.Locale
	switch t.State {
	case Paid:
		pay = msOrEmpty(t.PaidAt)
	case Queued:
		at, pay = numberOrEmpty(t.Mark), numberOrEmpty(t.By)
	case Cancelled:
		pay, locale = numberOrEmpty(t.By), numberOrEmpty(t.EndedBy)
	}
	record := strings.Join([]string{string(t.State), strconv.FormatInt(t.Seq, 10), strconv.Itoa(t.Units), strconv.Itoa(t.Slot), t.User,
		strconv.FormatInt(t.AdmittedAt.UnixMilli(), 10), t.Fingerprint, strconv.FormatInt(t.Position, 10), strconv.FormatInt(t.ETASeconds, 10),
		at, t.Reason, t.Email, t.Phone, locale, pay}, "\t")
	if t.Refund {
		record += "\t" + refundMark
	}
	return record
}

// numberOrEmpty is an instance or a sequence in a record or an argument: empty when it is not known.
func numberOrEmpty(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// msOrEmpty is a time in a record or an argument: empty when there is none.
func msOrEmpty(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}
