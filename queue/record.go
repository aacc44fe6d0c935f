package queue

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

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

// The fields of a line's meta hash that Go reads or writes by name.
const (
	metaEpoch    = "epoch"
	metaGate     = "gate"
	metaSeq      = "seq"
	metaClaimed  = "claimed"
	metaReleased = "released"
	metaVersion  = "version"
	metaBase     = "base"
	metaMarks    = "marks"
	metaLedger   = "ledger"
	metaState    = "state"
	metaStarts   = "starts"
	metaEnds     = "ends"
	metaLimit    = "limit"
	metaTotal    = "total"
	metaWaited   = "waited"
)

// metaSchema describes the fields of a line's meta hash.
func metaSchema() []field {
	return []field{
		{metaEpoch, number},    // which loading of the line this is
		{metaGate, serverName}, // while it is rebuilt: where its rebuild began
		{"run", serverName},    // where it was last compared with the ledger
		{"rev", number},        // its revision: the changes of this epoch
		{metaLedger, number},   // newest change of the ledger that it knows of
		{metaVersion, number},  // of the sale's settings, which follow
		{metaState, text},
		{metaStarts, number},
		{metaEnds, number},
		{"cap", number},
		{metaLimit, number},
		{metaTotal, number},
		{metaSeq, number},      // tickets ever admitted
		{metaClaimed, number},  // sequence up to which they have been claimed
		{"served", number},     // tickets that a worker has ended
		{"ended", number},      // tickets that ended before their worker said so
		{metaReleased, number}, // orders released since it was loaded
		{metaBase, number},     // sequence when it was loaded
		{metaMarks, number},    // sequences drawn since that are no tickets
		{"cancelled", number},  // orders that their owners have cancelled
		{"forgotten", number},  // finished orders whose records were dropped
		{"sold_out", number},   // when it was last told that nothing is left, in ms
		{"full", number},       // when it was last told that the line is full, in ms
		{"lease", number},      // the longest lease that was given, in ms
		{metaWaited, number},   // writes that waited for replicas
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
