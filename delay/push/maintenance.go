package push

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/apart"
)

const (
	// maintenancePeriod is how often messages are counted and expired leases reclaimed.
	maintenancePeriod = time.Second
	// idleTurns is how many of these turns go by between two counts of a subscription that had nothing.
	idleTurns = 5
	// reclaimRounds bounds how often 1,000 messages of one subscription are reclaimed in a turn.
	reclaimRounds = 20
)

// maintain sets the gauges and reclaims messages whose lease has run out, until ctx ends. It serves subscriptions that
// are off, too. Each server has its own rounds.
func (d *Dispatcher) maintain(ctx context.Context) {
	rounds := apart.New(message.ClaimServers, maintenancePeriod)
	defer rounds.Wait()
	for turn := 0; ; turn++ {
		d.forget()
		on := d.messages.ByServer(ctx, d.busy(d.seen.Subscriptions(), turn))
		rounds.Round(ctx, slices.Sorted(maps.Keys(on)), func(ctx context.Context, server string) error {
			d.maintainAll(ctx, on[server])
			return nil
		}, func(server string, err error) {
			d.log.ErrorContext(ctx, "maintenance of delayed messages failed", "server", server, "error", err)
		})
		idle(ctx, maintenancePeriod)
		if ctx.Err() != nil {
			return
		}
	}
}

// busy leaves out subscriptions that had nothing unfinished when they were last counted, and nothing since. Their turn
// comes now and then.
func (d *Dispatcher) busy(subs []delay.Subscription, turn int) []delay.Subscription {
	return slices.DeleteFunc(slices.Clone(subs), func(sub delay.Subscription) bool {
		turn++ // spreads them over the turns
		return turn%idleTurns != 0 && d.fills.isEmpty(sub.Name) && (sub.Kind == delay.Pull || d.watch.isIdle(sub.Name))
	})
}

// forget removes the gauges of topics and subscriptions that were deleted.
func (d *Dispatcher) forget() {
	current := d.topics.Snapshot()
	for _, sub := range d.seen.Subscriptions() {
		if _, still := current.Subscription(sub.Name); !still {
			d.metrics.forget(sub)
			d.fills.forget(sub.Name)
			d.receivers.forget(sub.Name)
		}
		if len(current.Of(sub.Topic)) == 0 {
			d.metrics.forgetTopic(sub.Topic)
		}
	}
	d.seen = current
}

// maintainAll counts the messages of subscriptions and reclaims those whose lease has run out. One that fails stops
// no other. A topic has its subscriptions on one server, so its sum is whole.
func (d *Dispatcher) maintainAll(ctx context.Context, subs []delay.Subscription) {
	ctx, cancel := context.WithTimeout(ctx, message.ClaimTimeout)
	defer cancel()
	counts, failed := d.messages.Count(ctx, subs)
	d.metrics.count(subs, counts, failed)
	for i, sub := range subs {
		if failed[i] == nil && counts[i].Firing > 0 && !d.isBlocked() {
			failed[i] = apart.Try(func() error { return d.reclaim(ctx, sub) })
		}
	}
	d.watchFill(ctx, subs, counts, failed)
	for i, sub := range subs {
		if sub.Kind != delay.Pull {
			failed[i] = errors.Join(failed[i], d.watchReceiver(ctx, sub))
		}
	}
	for i, sub := range subs {
		if begun, _ := d.maintenanceFaults.Note(sub.Name, failed[i]); begun && ctx.Err() == nil {
			d.log.WarnContext(ctx, "maintenance of delayed messages failed, will keep trying", "what", sub.Title(),
				"error", failed[i])
		}
	}
}

// watchFill tells of subscriptions that are filling up, and of what they missed.
func (d *Dispatcher) watchFill(ctx context.Context, subs []delay.Subscription, counts []message.Counts, failed []error,
) {
	missed, unread := d.messages.Missed(ctx, subs)
	for i, sub := range subs {
		if failed[i] = errors.Join(failed[i], unread[i]); failed[i] != nil {
			continue
		}
		fill := float64(counts[i].Unfinished()) / float64(d.cfg.MaxMessages)
		d.metrics.fill(sub, fill, missed[i])
		d.fills.setEmpty(sub.Name, fill == 0)
		filling, more := d.fills.note(sub.Name, fill, missed[i])
		if filling || more {
			report := FullReport{Subscription: sub, Unfinished: counts[i].Unfinished()}
			failed[i] = d.tellFill(ctx, report, filling, missed[i])
		}
	}
}

// tellFill tells of a subscription what no other process has told.
func (d *Dispatcher) tellFill(ctx context.Context, report FullReport, filling bool, missed int64) (err error) {
	first := false
	if filling {
		if first, err = d.messages.FirstToWarn(ctx, report.Subscription); err != nil {
			return err
		}
	}
	if missed > 0 {
		if report.Missed, err = d.messages.Untold(ctx, report.Subscription, missed); err != nil {
			return err
		}
	}
	if d.onFull != nil && (first || report.Missed > 0) {
		d.onFull(ctx, report)
	}
	return nil
}

// reclaim reclaims messages of a subscription whose deliverer stored no result in time. Readers may have held any
// number.
func (d *Dispatcher) reclaim(ctx context.Context, sub delay.Subscription) error {
	for range reclaimRounds {
		if n, err := d.reclaimSome(ctx, sub); err != nil || n < delay.MaxBatch {
			return err
		}
	}
	return nil
}

// reclaimSome reclaims up to 1,000 messages, counts them, and returns how many there were.
func (d *Dispatcher) reclaimSome(ctx context.Context, sub delay.Subscription) (int64, error) {
	found, err := d.messages.Reclaim(ctx, sub)
	again, dead := found.Again, found.Dead
	if err != nil || again+dead == 0 {
		return 0, err
	}
	d.watch.soon(sub.Name, 0)
	d.metrics.ended(sub, message.CountReclaimed, int(again+dead))
	d.log.WarnContext(ctx, "delayed messages taken over: their deliverer did not report",
		"topic", sub.Topic, "subscription", sub.Name, "due_again", again, "dead", dead)
	if dead > 0 {
		d.metrics.ended(sub, message.CountDead, int(dead))
		d.onDead(ctx, message.DeadReport{Subscription: sub, Count: dead, ID: found.DeadID, Error: message.Unreported})
	}
	return again + dead, nil
}
