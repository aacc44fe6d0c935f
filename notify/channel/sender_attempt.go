package channel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sony/gobreaker/v2"

	"sluice/notify"
)

// run sends one message on a worker of the pool.
func (s *Sender) run(j sendJob) {
	s.waiting.Add(-1)
	result := notify.Retry("sending panicked")
	defer func() {
		if p := recover(); p != nil {
			// The value may quote the message with an address, so only its type is logged.
			s.log.ErrorContext(j.ctx, "notify: sending panicked",
				"message", j.what, "panic", fmt.Sprintf("%T", p))
		}
		j.report(result)
	}()
	result = s.attempt(j)
}

// attempt sends one message when rate, time and breaker allow it. It does not begin when the batch has too little time
// left for one send. An interrupted attempt would count as a failure.
func (s *Sender) attempt(j sendJob) notify.Result {
	ctx, cancel := j.ctx, context.CancelFunc(func() {})
	if deadline, ok := j.ctx.Deadline(); ok {
		ctx, cancel = context.WithDeadline(j.ctx, deadline.Add(-s.cfg.Timeout))
	}
	defer cancel()
	if ctx.Err() != nil || s.limit.Wait(ctx) != nil {
		return notify.Hold(0, "its turn did not come in time")
	}
	for {
		if wait := time.Until(time.Unix(0, s.restUntil.Load())); wait > 0 {
			return notify.Hold(wait, "the receiver asked to be left alone")
		}
		changed := s.nextChange()
		report, err := s.breaker.Allow()
		switch {
		case err == nil:
			return s.send(j, report)
		case !errors.Is(err, gobreaker.ErrTooManyRequests):
			return notify.Hold(s.cfg.Pause, "the receiver fails, the channel waits")
		}
		select { // another message is finding out whether the receiver is back
		case <-changed:
		case <-ctx.Done():
			return notify.Hold(0, "the receiver is being tried again")
		}
	}
}

// send sends one message and tells the breaker how it went.
func (s *Sender) send(j sendJob, report func(error)) (result notify.Result) {
	result = notify.Retry("sending panicked")
	defer func() {
		report(breakerError(result))
		result = s.excuse(result)
	}()
	work, done := context.WithTimeout(j.ctx, s.cfg.Timeout)
	defer done()
	return j.send(work)
}

// excuse gives a message its attempt back when the receiver as a whole is at fault. That is so when it asked for a
// wait, or when the breaker has opened.
func (s *Sender) excuse(r notify.Result) notify.Result {
	if wait, held := r.HeldFor(); held {
		if wait == 0 {
			wait = s.cfg.Pause
		}
		s.rest(wait, r.Failure())
		return notify.Hold(wait, r.Failure())
	}
	if r.ReceiverDown() && s.breaker.State() != gobreaker.StateClosed {
		// The message loses its place. If it is at fault after all, the next one finds the receiver well.
		return notify.PutOff(2*s.cfg.Pause, r.Failure())
	}
	return r
}

// rest makes the channel wait, as the receiver asked.
func (s *Sender) rest(wait time.Duration, why string) {
	until := time.Now().Add(wait).UnixNano()
	for before := s.restUntil.Load(); before < until; before = s.restUntil.Load() {
		if s.restUntil.CompareAndSwap(before, until) {
			if before < time.Now().UnixNano() {
				s.log.Warn("notify: receiver asks to be left alone, its channel waits", "pause", wait, "error", why)
			}
			return
		}
	}
}

// errDown makes the breaker count a failure.
var errDown = errors.New("the receiver as a whole failed")

func breakerError(r notify.Result) error {
	if r.ReceiverDown() {
		return errDown
	}
	return nil
}

// nextChange returns a channel that is closed at the next change of the breaker's state.
func (s *Sender) nextChange() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// breakerChanged remembers when the breaker opened, wakes waiting workers and logs each change of its state.
func (s *Sender) breakerChanged(_ string, from, to gobreaker.State) {
	s.mu.Lock()
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if to == gobreaker.StateOpen {
		s.openedAt.Store(time.Now().UnixNano())
	}
	switch {
	case to == gobreaker.StateOpen && from == gobreaker.StateClosed:
		s.log.Warn("notify: receiver fails, its channel waits", "pause", s.cfg.Pause)
	case to == gobreaker.StateClosed:
		s.log.Info("notify: receiver is back")
	}
}
