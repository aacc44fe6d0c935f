package deadletter

import (
	"context"
	"errors"
	"time"

	"sluice/adminlog"
	"sluice/queue"
)

// Filter picks dead letters; each member that is set must fit. The zero value picks all.
type Filter struct {
	Reason string    // why it failed: its record's reason, or ReasonUnreadable
	User   string    // whose ticket it was
	Since  time.Time // failed at this time or later
	Until  time.Time // failed before this time
}

// ReasonUnreadable is the reason by which dead letters are picked whose record cannot be read.
const ReasonUnreadable = "unreadable"

// Any reports whether the filter picks all letters.
func (f Filter) Any() bool { return f == Filter{} }

// picks reports whether a letter fits. One that cannot be read has neither user nor time.
func (f Filter) picks(l queue.DeadLetter) bool {
	reason := l.Ticket.Reason
	if l.Err != nil {
		reason = ReasonUnreadable
	}
	return (f.Reason == "" || f.Reason == reason) && (f.User == "" || f.User == l.Ticket.User) &&
		(f.Since.IsZero() || !l.Ticket.At.Before(f.Since)) &&
		(f.Until.IsZero() || !l.Ticket.At.IsZero() && l.Ticket.At.Before(f.Until))
}

// Bounds of one call for many letters.
const (
	MaxLetters     = 10_000           // letters in one call, and as many as a sale keeps
	DefaultLetters = 1000             // unless the caller says otherwise
	maxRefusals    = 100              // of those refused that are named
	pageSize       = 500              // letters read at a time
	patience       = 15 * time.Second // no letter is begun after it
)

// Change requeues or drops the letters of a sale that fit, oldest first.
type Change struct {
	Sale, Actor, Reason string
	Filter              Filter
	Limit               int   // letters tried in this call, 1 to MaxLetters
	Skip                int64 // oldest letters left alone: the Next of the call before
}

// Result says what became of a Change.
type Result struct {
	Done     int       // requeued or dropped
	Refused  int       // tried, and still dead letters
	Refusals []Refusal // the first 100 of them
	Left     int       // that fit and were not tried; 0: all were
	Next     int64     // Skip of the next call
}

// Refusal is a dead letter that could not be changed.
type Refusal struct {
	ID  string
	Err error
}

// RequeueMany tries many dead letters again, each as Requeue does, with an entry of its own in the admin log. It
// returns an invalid.Error for a bad reason. An error of a store ends it: what was done until then stands and is in
// the result. The same call again goes on.
func (a *Admin) RequeueMany(ctx context.Context, c Change) (Result, error) {
	return a.changeMany(ctx, c, "dead.requeue", a.Requeue)
}

// DropMany forgets many dead letters, each as Drop does; otherwise it is as RequeueMany.
func (a *Admin) DropMany(ctx context.Context, c Change) (Result, error) {
	return a.changeMany(ctx, c, "dead.drop", a.Drop)
}

// changeMany walks from the oldest letter: newer ones that come meanwhile move none of those it has yet to see.
func (a *Admin) changeMany(
	ctx context.Context, c Change, action string,
	do func(ctx context.Context, sale, id, actor, reason string) error,
) (result Result, err error) {
	act := adminlog.Act{Actor: c.Actor, Action: action, Sale: c.Sale, Target: c.Sale, Reason: c.Reason}
	if err := act.Check(); err != nil {
		return result, err
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	line := a.lines.Of(c.Sale)
	result.Next = c.Skip
	for tried := 0; ; {
		letters, err := line.OldestDeadLetters(ctx, result.Next, pageSize)
		if err != nil || len(letters) == 0 {
			return result, err
		}
		for _, letter := range letters {
			if !c.Filter.picks(letter) {
				result.Next++
				continue
			}
			if tried >= c.Limit || limited.Err() != nil {
				result.Left, err = a.count(ctx, line, c.Filter, result.Next)
				return result, err
			}
			tried++
			err := do(ctx, c.Sale, letter.Ticket.ID, c.Actor, c.Reason)
			// a line that is not ready refuses all
			if err != nil && (!refused(err) || errors.Is(err, queue.ErrNotReady)) {
				return result, err
			}
			result.note(letter.Ticket.ID, err)
		}
	}
}

// note counts one letter that was tried. One that was refused stays where it is.
func (r *Result) note(id string, err error) {
	if err == nil {
		r.Done++
		return
	}
	r.Refused++
	r.Next++
	if len(r.Refusals) < maxRefusals {
		r.Refusals = append(r.Refusals, Refusal{ID: id, Err: err})
	}
}

// count counts the letters that fit behind the oldest that are skipped.
func (a *Admin) count(ctx context.Context, line *queue.Line, f Filter, skip int64) (n int, err error) {
	for ; ; skip += pageSize {
		letters, err := line.OldestDeadLetters(ctx, skip, pageSize)
		if err != nil || len(letters) == 0 {
			return n, err
		}
		for _, l := range letters {
			if f.picks(l) {
				n++
			}
		}
	}
}

// Find returns up to n dead letters of a sale that fit, newest first, after skipping some. It returns how many to skip
// for the next page; 0 after the last.
func (a *Admin) Find(
	ctx context.Context, sale string, f Filter, skip int64, n int,
) (found []queue.DeadLetter, next int64, err error) {
	for {
		letters, err := a.lines.Of(sale).DeadLetters(ctx, skip, pageSize)
		if err != nil || len(letters) == 0 {
			return found, 0, err
		}
		for _, l := range letters {
			if f.picks(l) {
				if len(found) == n {
					return found, skip, nil
				}
				found = append(found, l)
			}
			skip++
		}
	}
}
