package push

import (
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"sluice/delay"
	"sluice/delay/message"
)

const (
	// shrunk is how many calls at a time a receiver gets after it has failed. Each answer doubles the number.
	shrunk = 2
	// maxOutage is for how long failures are the receiver's alone. After that they cost attempts again. So messages
	// of a receiver that is gone for good become dead letters, of which operators hear.
	maxOutage = 24 * time.Hour
)

// receiver knows how the receiver of one subscription does, as one process sees it. A breaker opens when different
// messages in a row have failed. Then one call at a time finds out whether the receiver is back. Safe for concurrent
// use.
type receiver struct {
	updated  int64 // when operators last changed the subscription: then all is forgotten
	each     int   // most calls at a time
	failures int   // different messages in a row that open the breaker
	pause    time.Duration
	now      func() time.Time
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]

	mu       sync.Mutex
	window   int             // calls at a time
	failed   map[string]bool // messages that failed since the last answer, at most failures
	since    time.Time       // of the first failure or wait since the last answer; zero: none
	rest     time.Time       // until when the receiver asked to be left alone
	openedAt time.Time
	reopened bool   // since the breaker has opened, a call has failed
	why      string // the last failure
}

func newReceiver(cfg delay.Config, sub delay.Subscription, now func() time.Time) *receiver {
	r := &receiver{updated: sub.UpdatedAt, each: cfg.PerTopic, failures: cfg.Failures, pause: cfg.Pause, now: now,
		window: cfg.PerTopic, failed: map[string]bool{}}
	r.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: sub.Name, Timeout: cfg.Pause, OnStateChange: r.stateChanged,
		ReadyToTrip: func(gobreaker.Counts) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.failed) >= r.failures
		},
	})
	return r
}

func (r *receiver) stateChanged(_ string, from, to gobreaker.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if to == gobreaker.StateOpen {
		r.openedAt, r.reopened = r.now(), from == gobreaker.StateHalfOpen
	}
}

// limit returns how many calls the receiver may have at a time. It is none while it is left alone, one to try it
// again.
func (r *receiver) limit() int {
	state := r.breaker.State()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.now().Before(r.rest) || state == gobreaker.StateOpen:
		return 0
	case state == gobreaker.StateHalfOpen:
		return 1
	}
	return r.window
}

// errFailed makes the breaker count a failure.
var errFailed = errors.New("the receiver failed")

// begin reports whether a call may begin. Then ended must be called with its answer, once.
func (r *receiver) begin() (ended func(id string, a answer), may bool) {
	if r.resting() {
		return nil, false
	}
	report, err := r.breaker.Allow()
	if err != nil {
		return nil, false
	}
	return func(id string, a answer) {
		if r.note(id, a) {
			report(errFailed)
			return
		}
		report(nil)
	}, true
}

func (r *receiver) resting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now().Before(r.rest)
}

// note takes in an answer and reports whether the receiver failed with it.
func (r *receiver) note(id string, a answer) (failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch a.kind {
	case answerCutOff:
		return false
	case answerTaken, answerRefused, answerFinal:
		r.window, r.since, r.why = min(2*r.window, r.each), time.Time{}, ""
		clear(r.failed)
		return false
	case answerWait:
		if until := r.now().Add(a.wait); until.After(r.rest) {
			r.rest = until
		}
	case answerFailed:
		if len(r.failed) < r.failures {
			r.failed[id] = true
		}
	}
	if r.since.IsZero() {
		r.since = r.now()
	}
	r.window, r.why = min(shrunk, r.each), a.err.Error()
	return true
}

// excuses reports whether a failure costs no attempt. The receiver as a whole is at fault then, and for less than a
// day.
func (r *receiver) excuses(kind answerKind) bool {
	closed := r.breaker.State() == gobreaker.StateClosed
	r.mu.Lock()
	defer r.mu.Unlock()
	return (kind == answerWait || !closed) && !r.since.IsZero() && r.now().Sub(r.since) < maxOutage
}

// leftAlone returns for how long the receiver is left alone, and why. lasting reports that it failed again when it was
// tried.
func (r *receiver) leftAlone() (p message.Pause, lasting bool) {
	state := r.breaker.State()
	r.mu.Lock()
	defer r.mu.Unlock()
	if state != gobreaker.StateClosed {
		return message.Pause{Why: r.why, Until: later(r.rest, r.openedAt.Add(r.pause))}, r.reopened
	}
	if r.now().Before(r.rest) {
		return message.Pause{Why: r.why, Until: r.rest}, false
	}
	return message.Pause{}, false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// receivers has the receivers of a process by subscription. Safe for concurrent use.
type receivers struct {
	cfg delay.Config
	now func() time.Time

	mu    sync.Mutex
	of    map[string]*receiver
	shown map[string]shownState
}

func newReceivers(cfg delay.Config, now func() time.Time) *receivers {
	return &receivers{cfg: cfg, now: now, of: map[string]*receiver{}, shown: map[string]shownState{}}
}

// get returns what is known of a subscription's receiver: nothing, once operators have changed the subscription.
func (rs *receivers) get(sub delay.Subscription) *receiver {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r, known := rs.of[sub.Name]
	if !known || r.updated != sub.UpdatedAt {
		r = newReceiver(rs.cfg, sub, rs.now)
		rs.of[sub.Name] = r
	}
	return r
}

func (rs *receivers) forget(name string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.of, name)
	delete(rs.shown, name)
}
