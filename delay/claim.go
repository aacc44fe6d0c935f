package delay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
)

// claimAll claims due messages, round after round, until ctx ends. Redis' clock decides what is due. Between rounds it
// sleeps until the first known message is due, at most Config.Poll. Each server has its own rounds, so one that hangs
// delays no other.
func (d *Dispatcher) claimAll(ctx, work context.Context) {
	rounds := apart.New(claimServers, claimPatience)
	defer rounds.Wait()
	for ctx.Err() == nil {
		next := newShortestWait(d.cfg.Poll)
		on := d.messages.byServer(ctx, d.open())
		rounds.Round(work, slices.Sorted(maps.Keys(on)), func(work context.Context, server string) error {
			wait, err := d.claimRound(work, on[server])
			d.logTrouble(ctx, "server "+server, err)
			d.backoff.record("server "+server, err)
			if err != nil {
				_ = idle(ctx, nil, d.backoff.remaining("server "+server)) // after a fault
				return nil
			}
			next.take(wait)
			return nil
		}, func(server string, err error) { d.logTrouble(ctx, "server "+server, err) })
		_ = idle(ctx, nil, next.get()) // the loop's condition checks ctx
	}
}

// open returns the subscriptions whose receivers are called: those that are on, none while delivery is blocked.
func (d *Dispatcher) open() []Subscription {
	if d.isBlocked() {
		return nil
	}
	return slices.DeleteFunc(d.topics.Subscriptions(), func(s Subscription) bool { return !s.On() || s.Kind != Push })
}

// logTrouble logs that a subscription or a server fails, once until it recovers.
func (d *Dispatcher) logTrouble(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	switch begun, ended := d.faults.Note(what, err); {
	case begun:
		d.log.WarnContext(ctx, "delayed messages not delivered, will keep trying", "what", what, "error", err)
	case ended:
		d.log.InfoContext(ctx, "delayed messages are delivered again", "what", what)
	}
}

// claimRound claims once for every subscription of a server and returns how long nothing will be due. Each round begins
// with another one, so that none always finds the slots taken. One's fault stops no other. The returned error is a
// fault of the whole server.
func (d *Dispatcher) claimRound(work context.Context, subs []Subscription) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(work, claimTimeout)
	defer cancel()
	found := d.messages.firstDue(ctx, subs)
	wait := d.cfg.Poll
	first, failing := int(d.first.Add(1)%int64(len(found))), 0
	for i := range found {
		h := found[(first+i)%len(found)]
		name := h.sub.Name
		if h.err == nil && d.faults.Any() {
			d.logTrouble(work, "look at "+name, nil)
		}
		switch left := d.backoff.remaining(name); {
		case h.err != nil:
			d.logTrouble(work, "look at "+name, h.err)
			failing++
		case h.none:
		case left > 0: // its claims failed a moment ago
		case h.wait > 0:
			wait = min(wait, max(h.wait, claimPause))
		default:
			wait = min(wait, claimPause)
			err := apart.Try(func() error { return d.claim(work, h.sub) })
			d.logTrouble(work, name, err)
			d.backoff.record(name, err)
		}
	}
	if failing == len(found) {
		return 0, found[0].err
	}
	return wait, nil
}

// shortestWait remembers the shortest of several waits. Safe for concurrent use.
type shortestWait struct{ ns atomic.Int64 }

func newShortestWait(most time.Duration) *shortestWait {
	s := &shortestWait{}
	s.ns.Store(int64(most))
	return s
}

func (s *shortestWait) take(wait time.Duration) {
	for {
		shortest := s.ns.Load()
		if int64(wait) >= shortest || s.ns.CompareAndSwap(shortest, int64(wait)) {
			return
		}
	}
}

func (s *shortestWait) get() time.Duration { return time.Duration(s.ns.Load()) }

// claim takes slots, then as many due messages of the subscription, and gives each to a worker at once.
func (d *Dispatcher) claim(work context.Context, sub Subscription) error {
	room := d.slots.reserve(sub.Name, d.cfg.Batch)
	if room == 0 {
		return nil
	}
	used := 0
	defer func() { d.slots.release(sub.Name, room-used) }()
	to, err := newTarget(sub, d.now())
	if err != nil {
		return fmt.Errorf("%s: %w", sub.Title(), err)
	}
	ctx, cancel := context.WithTimeout(work, claimTimeout)
	defer cancel()
	killpoint.Pass("delay.claim")
	messages, err := d.messages.claim(ctx, sub, room)
	if newer, stale := errors.AsType[staleError](err); stale {
		return d.topics.catchUp(ctx, sub.Topic, newer) // the next round claims for what it is now
	}
	if err != nil {
		return err
	}
	killpoint.Pass("delay.claimed")
	at := d.now()
	for _, m := range messages {
		d.calls.Add(1)
		if err := d.pool.Invoke(callJob{work, to, m, at}); err != nil {
			d.calls.Done()
			return fmt.Errorf("no worker for a message of %s: %w", sub.Title(), err)
		}
		used++
	}
	return nil
}

var errPanicked = errors.New("the call panicked")

// call makes one call on a worker of the pool and queues its result. The channel of results has room for every slot, so
// call never waits there.
func (d *Dispatcher) call(j callJob) {
	defer d.calls.Done()
	out := d.caller.failedOutcome(j.target, j.message, 0, errPanicked) // stored if the call panics, which the pool logs
	defer func() { d.results <- result{j.target, out} }()
	if j.message.Attempt == 1 {
		d.metrics.lateness.Observe((j.message.lateness + d.now().Sub(j.claimed)).Seconds())
	}
	killpoint.Pass("delay.call")
	out = d.caller.deliver(j.ctx, j.target, j.message)
	killpoint.Pass("delay.called")
}
