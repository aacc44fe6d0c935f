package order

import (
	"context"
	"errors"
	"time"

	"sluice/adminlog"
	"sluice/queue"
)

// LetterFilter picks dead letters; each member that is set must fit. The zero
// value picks all.
type LetterFilter struct {
	Reason string    // why it failed: its record's reason, or ReasonUnreadable
	User   string    // whose ticket it was
	Since  time.Time // failed at this time or later
	Until  time.Time // failed before this time
}

// ReasonUnreadable is the reason by which dead letters are picked whose record
// cannot be read.
const ReasonUnreadable = "unreadable"

// Any reports whether the filter picks all letters.
func (f LetterFilter) Any() bool { return f == LetterFilter{} }

// picks reports whether a letter fits. One that cannot be read has neither user nor time.
func (f LetterFilter) picks(l queue.DeadLetter) bool {
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
	MostLetters     = 10_000           // letters in one call, and as many as a sale keeps
	DefaultLetters  = 1000             // unless the caller says otherwise
	mostRefusals    = 100              // of those refused that are named
	lettersPage     = 500              // letters read at a time
	lettersPatience = 15 * time.Second // no letter is begun after it
)

// LetterChange requeues or drops the letters of a sale that fit, oldest first.
type LetterChange struct {
	Sale, Actor, Reason string
	Filter              LetterFilter
	Limit               int   // letters tried in this call, 1 to MostLetters
	Skip                int64 // oldest letters left alone: the Next of the call before
}

// LetterResult says what became of a LetterChange.
type LetterResult struct {
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

// RequeueMany tries many dead letters again, each as Requeue does, with an
// entry of its own in the admin log. It returns an invalid.Error for a bad
// reason. An error of a store ends it: what was done until then stands, and is
// in the result; the same call again goes on.
func (d *DeadLetters) RequeueMany(ctx context.Context, c LetterChange) (LetterResult, error) {
	return d.many(ctx, c, "dead.requeue", d.Requeue)
}

// DropMany forgets many dead letters, each as Drop does; otherwise it is as RequeueMany.
func (d *DeadLetters) DropMany(ctx context.Context, c LetterChange) (LetterResult, error) {
	return d.many(ctx, c, "dead.drop", d.Drop)
}

// many walks from the oldest letter: newer ones that come meanwhile move none of those it has yet to see.
func (d *DeadLetters) many(
	ctx context.Context, c LetterChange, action string, do func(ctx context.Context, sale, id, actor,
		reason string) error,
) (result LetterResult, err error) {
	act := adminlog.Act{Actor: c.Actor, Action: action, Sale: c.Sale, Target: c.Sale, Reason: c.Reason}
	if err := act.Check(); err != nil {
		return result, err
	}
	enough, cancel := context.WithTimeout(ctx, lettersPatience)
	defer cancel()
	line := d.lines.Of(c.Sale)
	result.Next = c.Skip
	for tried := 0; ; {
		letters, err := line.OldestDeadLetters(ctx, result.Next, lettersPage)
		if err != nil || len(letters) == 0 {
			return result, err
		}
		for _, letter := range letters {
			if !c.Filter.picks(letter) {
				result.Next++
				continue
			}
			if tried >= c.Limit || enough.Err() != nil {
				result.Left, err = d.count(ctx, line, c.Filter, result.Next)
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
func (r *LetterResult) note(id string, err error) {
	if err == nil {
		r.Done++
		return
	}
	r.Refused++
	r.Next++
	if len(r.Refusals) < mostRefusals {
		r.Refusals = append(r.Refusals, Refusal{ID: id, Err: err})
	}
}

// count counts the letters that fit behind the oldest that are skipped.
func (d *DeadLetters) count(ctx context.Context, line *queue.Line, f LetterFilter, skip int64) (n int, err error) {
	for ; ; skip += lettersPage {
		letters, err := line.OldestDeadLetters(ctx, skip, lettersPage)
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

// Find returns up to n dead letters of a sale that fit, newest first, after
// skipping some, and how many to skip for the next page; 0 after the last.
func (d *DeadLetters) Find(
	ctx context.Context, sale string, f LetterFilter, skip int64, n int,
) (found []queue.DeadLetter, next int64, err error) {
	for {
		letters, err := d.lines.Of(sale).DeadLetters(ctx, skip, lettersPage)
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
