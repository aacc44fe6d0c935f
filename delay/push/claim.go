package push

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/apart"
	"sluice/internal/killpoint"
)

// claimAll claims due messages, round after round, until ctx ends. Redis' clock decides what is due. A round looks at
// the subscriptions that may have something due. Between rounds it sleeps, at most Config.Poll. Each server has its own
// rounds, so one that hangs delays no other.
func (d *Dispatcher) claimAll(ctx, work context.Context) {
	rounds := apart.New(message.ClaimServers, message.ClaimPatience)
	defer rounds.Wait()
	for ctx.Err() == nil {
		if due := d.watch.due(d.open(), d.cfg.Poll); len(due) > 0 {
			on := d.messages.ByServer(ctx, due)
			rounds.Round(work, slices.Sorted(maps.Keys(on)), func(work context.Context, server string) error {
				err := d.claimRound(work, on[server])
				d.logTrouble(ctx, "server "+server, err)
				d.pauses.Note("server "+server, err)
				if err != nil {
					idle(ctx, d.pauses.Left("server "+server)) // after a fault
				}
				return nil
			}, func(server string, err error) { d.logTrouble(ctx, "server "+server, err) })
		}
		d.sleep(ctx)
	}
}

// sleep waits until a subscription is to be looked at.
func (d *Dispatcher) sleep(ctx context.Context) {
	timer := time.NewTimer(d.watch.wait(d.cfg.Poll))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-d.watch.wake:
	}
}

// open returns the subscriptions whose receivers are called: those that are on, none while delivery is blocked.
func (d *Dispatcher) open() []delay.Subscription {
	if d.isBlocked() {
		return nil
	}
	return slices.DeleteFunc(d.topics.Subscriptions(), func(s delay.Subscription) bool {
		return !d.delivered(s)
	})
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

// claimRound claims once for each of the subscriptions of a server. It notes when each is to be looked at again. Each
// round begins with another one, so that none always finds the slots taken. One's fault stops no other. The returned
// error is a fault of the whole server.
func (d *Dispatcher) claimRound(work context.Context, subs []delay.Subscription) error {
	ctx, cancel := context.WithTimeout(work, message.ClaimTimeout)
	defer cancel()
	found := d.messages.FirstDue(ctx, subs)
	first, failing := int(d.first.Add(1)%int64(len(found))), 0
	for i := range found {
		h := found[(first+i)%len(found)]
		name := h.Subscription.Name
		if h.Err == nil && d.faults.Any() {
			d.logTrouble(work, "look at "+name, nil)
		}
		switch left := d.pauses.Left(name); {
		case h.Err != nil:
			d.logTrouble(work, "look at "+name, h.Err)
			failing++
		case h.None:
			d.watch.next(name, idleLook, true)
		case left > 0: // its claims failed a moment ago
			d.watch.next(name, left, false)
		case h.Wait > 0:
			d.watch.next(name, max(h.Wait, message.ClaimPause), false)
		default:
			d.watch.next(name, d.claimPause(h.Subscription), false)
			err := apart.Try(func() error { return d.claim(work, h.Subscription) })
			d.logTrouble(work, name, err)
			d.pauses.Note(name, err)
		}
	}
	if failing == len(found) {
		return found[0].Err
	}
	return nil
}

// claimPause returns how long after a claim the subscription is looked at again.
func (d *Dispatcher) claimPause(sub delay.Subscription) time.Duration {
	alone, _ := d.pauseOf(sub)
	return max(alone.Until.Sub(d.now()), message.ClaimPause)
}

// claim takes slots, then as many due messages of the subscription, and gives each to a worker at once.
func (d *Dispatcher) claim(work context.Context, sub delay.Subscription) error {
	most, limit := d.room(sub)
	room := d.slots.reserve(sub.Name, most, limit)
	if room == 0 {
		return nil
	}
	used := 0
	defer func() { d.slots.release(sub.Name, room-used) }()
	to, err := newTarget(sub, d.receivers.get(sub), d.now())
	if err != nil {
		return fmt.Errorf("%s: %w", sub.Title(), err)
	}
	ctx, cancel := context.WithTimeout(work, message.ClaimTimeout)
	defer cancel()
	killpoint.Pass("delay.claim")
	messages, err := d.messages.Claim(ctx, sub, room)
	if newer, stale := errors.AsType[delay.StaleError](err); stale {
		return d.topics.CatchUp(ctx, sub.Topic, newer) // the next round claims for what it is now
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
		d.metrics.lateness.Observe((j.message.Lateness + d.now().Sub(j.claimed)).Seconds())
	}
	killpoint.Pass("delay.call")
	if c := d.channelOf(j.target.Subscription); c != nil {
		out = d.send(j.ctx, c, j.target, j.message)
	} else {
		out = d.caller.deliver(j.ctx, j.target, j.message)
	}
	killpoint.Pass("delay.called")
}
