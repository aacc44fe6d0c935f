package queue

import (
	"errors"
	"fmt"
	"time"
)

// Refusals of an admission, in the order in which they are checked. None of
// them has changed anything in the line.
var (
	ErrMismatch   = errors.New("the order id is known with another payload")
	ErrEnded      = errors.New("the sale has ended")
	ErrPaused     = errors.New("the sale is paused")
	ErrCancels    = errors.New("the user has cancelled as many orders of this sale as one may")
	ErrFull       = errors.New("the line is at its cap")
	ErrSoldOut    = errors.New("not enough units left")
	ErrNotReady   = errors.New("the line is not ready: it is missing or being rebuilt")
	ErrOutdated   = errors.New("the line was loaded anew since the batch was claimed")
	ErrFenced     = errors.New("the batch's lease has gone: another worker has it")
	ErrBusy       = errors.New("a worker has the ticket right now")
	ErrUnknown    = errors.New("no such order in this line")
	ErrNotWaiting = errors.New("the order no longer waits in the line")
)

// NotStartedError refuses an admission before the sale's window.
type NotStartedError struct {
	StartsAt time.Time // zero: not opened yet
}

func (e NotStartedError) Error() string {
	if e.StartsAt.IsZero() {
		return "the sale has not been opened"
	}
	return fmt.Sprintf("the sale starts at %s", e.StartsAt.Format(time.RFC3339))
}

// LimitError refuses an admission to a user who already holds the limit.
type LimitError struct {
	OrderID string // the newest order held; empty when a single request asks for more than the limit
}

func (e LimitError) Error() string { return "the user already holds the limit" }
