package notify

import (
	"strings"
	"time"
)

// Result is what became of one message. Use Delivered, Skipped, Overtaken, Retry, RetryAfter, Unreachable, Hold or
// Permanent.
type Result struct {
	outcome outcome
	after   time.Duration
	err     string
	down    bool // the receiver as a whole failed, not this message
}

type outcome int

const (
	failed outcome = iota // the zero Result: nothing was reported
	delivered
	permanent
	skipped
	overtaken
	held
)

// maxWait bounds the wait that a receiver or a channel may ask for.
const maxWait = time.Hour

// Delivered returns success.
func Delivered() Result { return Result{outcome: delivered} }

// Retry returns a failure that may pass; the relay's schedule says when to try again. The text is stored: no personal
// data in it.
func Retry(err string) Result { return Result{outcome: failed, err: err} }

// RetryAfter returns Retry with the wait that the receiver asked for, cut at one hour. It counts where the schedule's
// wait is shorter.
func RetryAfter(wait time.Duration, err string) Result {
	return Result{outcome: failed, after: min(max(wait, 0), maxWait), err: err}
}

// Unreachable returns Retry where the receiver as a whole failed. Enough of these in a row close a channel for a while.
func Unreachable(err string) Result { return Result{outcome: failed, err: err, down: true} }

// Hold hands a message back that was not sent at all: it counts no attempt and keeps its place. The calling relay
// leaves the channel alone for wait, cut at one hour.
func Hold(wait time.Duration, why string) Result {
	return Result{outcome: held, after: min(max(wait, 0), maxWait), err: why}
}

// Skipped ends a message for which this channel has nobody to tell. It is counted apart from the delivered ones.
func Skipped(why string) Result { return Result{outcome: skipped, err: why} }

// Overtaken ends a message that is no longer true. It is counted and listed apart.
func Overtaken(why string) Result { return Result{outcome: overtaken, err: why} }

// Permanent returns a failure that no retry can mend: the message becomes dead.
func Permanent(err string) Result { return Result{outcome: permanent, err: err} }

// IsDelivered reports success.
func (r Result) IsDelivered() bool { return r.outcome == delivered }

// IsPermanent reports a failure that no retry can mend.
func (r Result) IsPermanent() bool { return r.outcome == permanent }

// ReceiverDown reports a failure of the receiver as a whole.
func (r Result) ReceiverDown() bool { return r.down }

// Explain returns the result with more text behind its reason.
func (r Result) Explain(text string) Result {
	r.err += text
	return r
}

// Failure says why the message was not delivered; empty when it was.
func (r Result) Failure() string {
	switch {
	case r.outcome == delivered:
		return ""
	case r.err == "":
		return "nothing was reported"
	}
	return r.err
}

// maxError is the width of last_error, in characters.
const maxError = 200

// storable makes any text fit last_error on every database: valid UTF-8, no NUL, cut to its width.
func storable(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "")
	if runes := []rune(text); len(runes) > maxError {
		return string(runes[:maxError])
	}
	return text
}
