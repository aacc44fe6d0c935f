package delay

import (
	"context"
	"maps"
	"slices"
	"time"

	"sluice/internal/apart"
)

// maintenancePeriod is how often messages are counted and expired leases reclaimed.
const maintenancePeriod = time.Second

// maintain sets the gauges and reclaims messages whose lease has run out, until ctx ends. It serves topics that are
// off, too. Each server has its own rounds.
func (d *Dispatcher) maintain(ctx context.Context) {
	rounds := apart.New(claimServers, maintenancePeriod)
	defer rounds.Wait()
	for {
		topics := d.topics.All()
		d.forget(topics)
		on := d.messages.byServer(ctx, topics)
		rounds.Round(ctx, slices.Sorted(maps.Keys(on)), func(ctx context.Context, server string) error {
			d.maintainTopics(ctx, on[server])
			return nil
		}, func(server string, err error) {
			d.log.ErrorContext(ctx, "maintenance of delayed messages failed", "server", server, "error", err)
		})
		if idle(ctx, nil, maintenancePeriod) != nil {
			return
		}
	}
}

// forget removes the gauges of topics that were deleted.
func (d *Dispatcher) forget(topics []Topic) {
	current := make(map[string]bool, len(topics))
	for _, t := range topics {
		current[t.Name] = true
	}
	for name := range d.seen {
		if !current[name] {
			d.metrics.forget(name)
		}
	}
	d.seen = current
}

// maintainTopics counts the messages of topics and reclaims those whose lease has run out. A topic that fails stops no
// other.
func (d *Dispatcher) maintainTopics(ctx context.Context, topics []Topic) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	counts, failed := d.messages.Count(ctx, topics)
	for i, t := range topics {
		if failed[i] == nil {
			d.metrics.count(t.Name, counts[i])
			if counts[i].Firing > 0 && !d.isBlocked() {
				failed[i] = apart.Try(func() error { return d.reclaim(ctx, t) })
			}
		}
		if begun, _ := d.maintenanceFaults.Note(t.Name, failed[i]); begun && ctx.Err() == nil {
			d.log.WarnContext(ctx, "maintenance of delayed messages failed, will keep trying", "topic", t.Name,
				"error", failed[i])
		}
	}
}

// reclaim reclaims messages of a topic whose dispatcher stored no result in time, and counts them.
func (d *Dispatcher) reclaim(ctx context.Context, t Topic) error {
	found, err := d.messages.reclaim(ctx, t)
	again, dead := found.again, found.dead
	if err != nil || again+dead == 0 {
		return err
	}
	d.metrics.calls.WithLabelValues(t.Name, countReclaimed).Add(float64(again + dead))
	d.log.WarnContext(ctx, "delayed messages taken over: their dispatcher did not report",
		"topic", t.Name, "due_again", again, "dead", dead)
	if dead > 0 {
		d.metrics.calls.WithLabelValues(t.Name, countDead).Add(float64(dead))
		d.onDead(ctx, DeadReport{Topic: t, Count: dead, ID: found.deadID, Error: unreported})
	}
	return nil
}
