package notify

import (
	"context"
	"strings"
	"time"
)

// Channel is one way out, such as a webhook or the event stream.
//
// Deliver returns one Result per message, in the same order; a missing one counts as a failure to retry. It may be handed a
// message it has delivered before, with the same ID. It must return soon after ctx ends. The relay calls it from one goroutine,
// and a slow channel delays no other.
type Channel interface {
	// Name is at most 16 characters and never changes: rows are queued under it.
	Name() string
	Deliver(ctx context.Context, batch []Message) []Result
}

// Pausing is a Channel that may know its receiver to be down. While Pause is more than 0 the relay leaves the channel's rows alone,
// so that a long backlog costs the database nothing.
type Pausing interface {
	Pause() time.Duration
}

// Wide is a Channel to which many messages cost little more than one: it takes Width times notify.batch of them in one delivery.
type Wide interface {
	Width() int
}

// Latest is a Channel that tells shoppers how their order stands. What was overtaken before it was told is not told: "confirmed, pay
// until noon" after the order has expired. Channels that other systems read are not: they get every event.
type Latest interface {
	Latest() bool
}

// Message is what a channel delivers. It carries no e-mail address and no phone number.
type Message struct {
	OrderID   string
	Event     string
	SaleID    string
	UserID    string
	CreatedAt time.Time
	Attempt   int // 1 for the first delivery
}

// ID is the same in every delivery of this message, on every channel, so that receivers can drop repeats.
func (m Message) ID() string { return m.OrderID + ":" + m.Event }

// Result is what became of one message. Use Delivered, Skipped, Overtaken, Retry, RetryAfter, Unreachable, Hold or Permanent.
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

// Delivered is success.
func Delivered() Result { return Result{outcome: delivered} }

// Retry is a failure that may pass; the relay's schedule says when to try again. The text is stored: no personal data in it.
func Retry(err string) Result { return Result{outcome: failed, err: err} }

// RetryAfter is Retry with a wait the receiver asked for, which counts where the schedule's is shorter. It is cut at one hour.
func RetryAfter(wait time.Duration, err string) Result {
	return Result{outcome: failed, after: min(max(wait, 0), time.Hour), err: err}
}

// Unreachable is Retry where the receiver as a whole failed: enough of these in a row close a channel for a while.
func Unreachable(err string) Result { return Result{outcome: failed, err: err, down: true} }

// Hold hands a message back that was not sent at all: it counts no attempt and keeps its place. The relay that has called leaves the
// channel alone for wait, cut at one hour.
func Hold(wait time.Duration, why string) Result {
	return Result{outcome: held, after: min(max(wait, 0), time.Hour), err: why}
}

// Skipped is for a message this channel has nobody to tell: it is done with, and counted apart from the delivered ones.
func Skipped(why string) Result { return Result{outcome: skipped, err: why} }

// Overtaken is for a message that is no longer true: it is done with, and counted and listed apart.
func Overtaken(why string) Result { return Result{outcome: overtaken, err: why} }

// Permanent is a failure no retry can mend: the message becomes dead.
func Permanent(err string) Result { return Result{outcome: permanent, err: err} }

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
