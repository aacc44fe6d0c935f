package message

import (
	"context"
	"time"

	"sluice/delay"
)

// Outcome is what became of one attempt, for Settle.
type Outcome struct {
	id, token string
	op        byte
	value     int64
	err       string
}

// PutOff makes the message due after a wait, by Redis' clock, and uncounts the attempt.
func (l Lease) PutOff(wait time.Duration, err string) Outcome {
	return Outcome{id: l.ID, token: l.Token, op: opPutOff, value: wait.Milliseconds(), err: err}
}

// Again returns in how long the message is due again, or false where it is not.
func (o Outcome) Again() (wait time.Duration, again bool) {
	switch o.op {
	case opRetry, opPutOff:
		return time.Duration(o.value) * time.Millisecond, true
	case opBack:
		return 0, true
	}
	return 0, false
}

// The operations of settle.lua.
const (
	opDelivered = 'd'
	opRetry     = 'r'
	opDead      = 'x'
	opBack      = 'b'
	opPutOff    = 'p'
)

// Delivered ends the message.
func (l Lease) Delivered() Outcome { return Outcome{id: l.ID, token: l.Token, op: opDelivered} }

// Retry makes the message due again after a wait, by Redis' clock.
func (l Lease) Retry(wait time.Duration, err string) Outcome {
	return Outcome{id: l.ID, token: l.Token, op: opRetry, value: wait.Milliseconds(), err: err}
}

// Dead makes the message a dead letter.
func (l Lease) Dead(err string) Outcome {
	return Outcome{id: l.ID, token: l.Token, op: opDead, err: err}
}

// Back hands the message back as it was: the attempt is not counted.
func (l Lease) Back() Outcome {
	return Outcome{id: l.ID, token: l.Token, op: opBack, value: l.Due}
}

// The values of the label outcome of the counted attempts.
const (
	CountDelivered = "delivered"
	CountRetry     = "retry"
	CountDead      = "dead"
	CountPutOff    = "put_off"   // the receiver as a whole failed or asked for a wait: the attempt is not counted
	CountReleased  = "released"  // cut off by a process that stopped, and handed back
	CountFenced    = "fenced"    // the lease had ended before the result was stored
	CountReclaimed = "reclaimed" // no result came before the lease ended: the deliverer died
)

// Tally counts outcomes of a subscription by what became of them.
func Tally(sub delay.Subscription, outcomes []Outcome, stored []bool) (counts map[string]int, dead DeadReport) {
	counts, dead = map[string]int{}, DeadReport{Subscription: sub}
	for i, o := range outcomes {
		switch {
		case !stored[i]:
			counts[CountFenced]++
		case o.op == opDelivered:
			counts[CountDelivered]++
		case o.op == opRetry:
			counts[CountRetry]++
		case o.op == opBack:
			counts[CountReleased]++
		case o.op == opPutOff:
			counts[CountPutOff]++
		default:
			counts[CountDead]++
			dead.Count, dead.ID, dead.Error = dead.Count+1, o.id, o.err
		}
	}
	return counts, dead
}

// DeadReport describes messages of one subscription that became dead letters together.
type DeadReport struct {
	Subscription delay.Subscription
	Count        int64
	ID           string // one of them
	Error        string // of its last attempt
}

// OnDead is called with new dead letters. It must not block.
type OnDead func(ctx context.Context, d DeadReport)
