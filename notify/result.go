package notify

import (
	"time"
)

// Result is the outcome of one delivery. Make one with Delivered, Skipped, Overtaken, Retry, Unreachable, Hold, PutOff
// or Permanent.
type Result struct {
	outcome outcome
	after   time.Duration
	err     string
	down    bool // the receiver failed as a whole, not for this message only
}

type outcome int

const (
	failed outcome = iota // the zero Result: nothing was reported
	delivered
	permanent
	skipped
	overtaken
	held
	putOff
)

// maxWait bounds the wait that a receiver or a channel may ask for.
const maxWait = time.Hour

// Delivered returns the result of a delivered message.
func Delivered() Result { return Result{outcome: delivered} }

// Retry returns a failure that may pass; the relay's schedule says when to try again. The text is stored, so it must
// hold no personal data.
func Retry(err string) Result { return Result{outcome: failed, err: err} }

// Unreachable returns Retry for a receiver that failed as a whole. Enough of these in a row pause the channel.
func Unreachable(err string) Result { return Result{outcome: failed, err: err, down: true} }

// Hold returns the result of a message that was not sent at all. It counts no attempt, and the message keeps its place.
// The relay pauses the channel for wait, cut at one hour.
func Hold(wait time.Duration, why string) Result {
	return Result{outcome: held, after: min(max(wait, 0), maxWait), err: why}
}

// PutOff returns a failure of the receiver as a whole that counts no attempt. The message is due again after wait, cut
// at two hours. It loses its place, so that another message finds out whether the receiver is back.
func PutOff(wait time.Duration, why string) Result {
	return Result{outcome: putOff, after: min(max(wait, 0), 2*maxWait), err: why}
}

// Skipped returns the result of a message without a recipient on this channel. It ends the message and is counted
// apart.
func Skipped(why string) Result { return Result{outcome: skipped, err: why} }

// Overtaken returns the result of a message that is no longer true. It ends the message and is counted and listed
// apart.
func Overtaken(why string) Result { return Result{outcome: overtaken, err: why} }

// Permanent returns a failure that no retry can end: the message becomes dead.
func Permanent(err string) Result { return Result{outcome: permanent, err: err} }

// IsDelivered reports whether the message was delivered.
func (r Result) IsDelivered() bool { return r.outcome == delivered }

// IsPermanent reports whether no retry can end the failure.
func (r Result) IsPermanent() bool { return r.outcome == permanent }

// IsSkipped reports whether the message had no recipient on the channel.
func (r Result) IsSkipped() bool { return r.outcome == skipped }

// IsOvertaken reports whether the message was no longer true.
func (r Result) IsOvertaken() bool { return r.outcome == overtaken }

// HeldFor returns the wait of a Hold and reports whether the result is one.
func (r Result) HeldFor() (time.Duration, bool) { return r.after, r.outcome == held }

// PutOffFor returns the wait of a PutOff and reports whether the result is one.
func (r Result) PutOffFor() (time.Duration, bool) { return r.after, r.outcome == putOff }

// ReceiverDown reports whether the receiver failed as a whole.
func (r Result) ReceiverDown() bool { return r.down }

// Explain returns the result with text added to its reason.
func (r Result) Explain(text string) Result {
	r.err += text
	return r
}

// Reason returns the text that the result was made with.
func (r Result) Reason() string { return r.err }

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
