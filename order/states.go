package order

import (
	"errors"
	"time"

	"sluice/queue"
)

// The states an order is shown in. Queued and Processing exist only in the
// line; every other state is a row of the database.
const (
	Queued     = "queued"
	Processing = "processing"
	Confirmed  = "confirmed"
	Paid       = "paid"
	Failed     = "failed"
	Cancelled  = "cancelled"
	Expired    = "expired"
)

// Statuses lists the states.
func Statuses() []string {
	return []string{Queued, Processing, Confirmed, Paid, Failed, Cancelled, Expired}
}

// Reasons of failed orders.
const (
	ReasonSoldOut = "sold_out"
	ReasonLimit   = "limit_reached"
	ReasonGaveUp  = "internal_error"
)

// Errors of looking up and changing orders.
var (
	ErrNotFound       = errors.New("no such order")
	ErrNotCancellable = errors.New("the order can no longer be cancelled")
	ErrBusy           = errors.New("the order is being worked on: try again soon")
)

// StatusOf returns the state that a ticket's state is shown as.
func StatusOf(s queue.State) string {
	switch s {
	case queue.Confirmed:
		return Confirmed
	case queue.Paid:
		return Paid
	case queue.Failed:
		return Failed
	case queue.Cancelled:
		return Cancelled
	case queue.Expired:
		return Expired
	}
	return Queued
}

// Time returns the time that a row holds as unix milliseconds: the zero time for 0.
func Time(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Millis returns what Time reads.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
