package queue

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// State is where an order stands, as the line knows it.
type State byte

// The states of a record. Queued covers everything from admission until the order exists or has
// failed. The ticket's sequence tells whether it waits or is worked on.
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
	Attempts     int       // how often it failed by its own fault; known of claimed isolated tickets only
	Held         bool      // cancelled, and its units and slot return when that is written down
	Mark         int64     // of a dead letter that came back: the sequence drawn then; 0: it never died
}

// fieldKind says what a field may hold.
type fieldKind byte

const (
	letter     fieldKind = iota + 1 // one letter of a State
	number                          // digits
	maybe                           // digits, or nothing
	text                            // anything but control characters
	mark                            // refundMark, or the field is missing
	serverName                      // a server_id of lua/record.lua
)

// field is one place in a record or a hash.
type field struct {
	name string
	kind fieldKind
}

// The places of an order's record: its fields, joined by tabs. The schema is
// here and nowhere else. A test holds every script against it.
const (
	atState = iota
	atSeq
	atUnits
	atSlot
	atUser
	atAdmitted
	atFingerprint
	atPosition
	atETA
	atEnded
	atReason
	atEmail
	atPhone
	atLocale
	atPay
	atRefund // missing unless a payment must go back

	recordFields = atRefund
	oldFields    = atLocale // what an older version wrote, and may still stand in the line when this one starts
)

const (
	refundMark = "r"
	heldReason = "held"
)

// recordSchema describes the places of a record.
func recordSchema() [atRefund + 1]field {
	return [...]field{
		atState:       {"state", letter},
		atSeq:         {"seq", number},
		atUnits:       {"units", number},
		atSlot:        {"slot", number},
		atUser:        {"user", text},
		atAdmitted:    {"admitted_ms", number},
		atFingerprint: {"fingerprint", text},
		atPosition:    {"position", number},
		atETA:         {"eta_s", number},
		atEnded:       {"at_ms", maybe}, // q: the sequence that was drawn when a dead letter came back
		atReason:      {"reason", text}, // x: "held" while its units and slot wait for a worker, see cancel
		atEmail:       {"email", text},
		atPhone:       {"phone", text},
		atLocale:      {"locale", text},  // x: the number of the instance that cancelled it in the line
		atPay:         {"pay_ms", maybe}, // c: when it must be paid; p: when it was; q, x: instance that admitted it
		atRefund:      {"refund", mark},
	}
}

// ParseTicket reads a record. It fails on anything that no script writes.
func ParseTicket(id, record string) (Ticket, error) {
	f, n := fieldsOf(record)
	refund := n == atRefund+1 && f[atRefund] == refundMark
	if n != recordFields && n != oldFields && !refund || len(f[atState]) != 1 || !State(f[atState][0]).Valid() {
		return Ticket{}, fmt.Errorf("ticket %s: its record is not one: %q", id, record)
	}
	t := Ticket{
		ID: id, State: State(f[atState][0]), User: f[atUser], Fingerprint: f[atFingerprint], Reason: f[atReason],
		Email: f[atEmail], Phone: f[atPhone], Locale: f[atLocale], Refund: refund,
	}
	var admitted, ended, pay, units, slot int64
	endedTo, payTo, cancelledBy := &ended, &pay, ""
	switch t.State {
	case Queued:
		endedTo, payTo = &t.Mark, &t.By
	case Cancelled:
		payTo, cancelledBy, t.Locale = &t.By, t.Locale, ""
		if t.Held = t.Reason == heldReason; t.Held {
			t.Reason = ""
		}
	}
	for _, n := range []struct {
		text string
		to   *int64
	}{
		{cancelledBy, &t.EndedBy}, {f[atSeq], &t.Seq}, {f[atUnits], &units}, {f[atSlot], &slot},
		{f[atAdmitted], &admitted}, {f[atPosition], &t.Position}, {f[atETA], &t.ETASeconds},
		{f[atEnded], endedTo}, {f[atPay], payTo},
	} {
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
	if ended > 0 {
		t.At = time.UnixMilli(ended).UTC()
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
func fieldsOf(record string) (f [atRefund + 1]string, n int) {
	for rest, more := record, true; more; n++ {
		var one string
		if one, rest, more = strings.Cut(rest, "\t"); n < len(f) {
			f[n] = one
		}
	}
	return f, n
}

// Record returns the record of a ticket, as ParseTicket reads it.
func (t Ticket) Record() string {
	f := [atRefund + 1]string{
		atState: string(t.State), atSeq: strconv.FormatInt(t.Seq, 10), atUnits: strconv.Itoa(t.Units),
		atSlot: strconv.Itoa(t.Slot), atUser: t.User, atAdmitted: strconv.FormatInt(t.AdmittedAt.UnixMilli(), 10),
		atFingerprint: t.Fingerprint, atPosition: strconv.FormatInt(t.Position, 10),
		atETA: strconv.FormatInt(t.ETASeconds, 10), atEnded: msOrEmpty(t.At), atReason: t.Reason,
		atEmail: t.Email, atPhone: t.Phone, atLocale: t.Locale, atPay: msOrEmpty(t.PayBy), atRefund: refundMark,
	}
	switch t.State {
	case Paid:
		f[atPay] = msOrEmpty(t.PaidAt)
	case Queued:
		f[atEnded], f[atPay] = numberOrEmpty(t.Mark), numberOrEmpty(t.By)
	case Cancelled:
		f[atPay], f[atLocale] = numberOrEmpty(t.By), numberOrEmpty(t.EndedBy)
	}
	if t.Refund {
		return strings.Join(f[:], "\t")
	}
	return strings.Join(f[:recordFields], "\t")
}

// numberOrEmpty writes an instance or a sequence: empty when it is not known.
func numberOrEmpty(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// msOrEmpty writes a time: empty when there is none.
func msOrEmpty(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}
