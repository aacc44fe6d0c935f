package delay

import (
	"context"
	"maps"
	"slices"
	"time"

	"sluice/internal/apart"
)

// keepEvery is how often messages are counted and those of dead deliverers looked for.
const keepEvery = time.Second

// keep is the housekeeping loop: the gauges, and messages whose lease has run out, also of topics that are off. The topics of each
// server have turns of their own.
func (f *Firer) keep(ctx context.Context) {
	rounds := apart.New(claimServers, keepEvery)
	defer rounds.Wait()
	for {
		topics := f.topics.All()
		f.forget(topics)
		on := f.box.byServer(ctx, topics)
		rounds.Round(ctx, slices.Sorted(maps.Keys(on)), func(ctx context.Context, server string) error {
			f.tidy(ctx, on[server])
			return nil
		}, func(server string, err error) {
			f.log.ErrorContext(ctx, "delayed messages not looked after", "server", server, "error", err)
		})
		if idle(ctx, nil, keepEvery) != nil {
			return
		}
	}
}

// forget ends the gauges of topics that are gone.
func (f *Firer) forget(topics []Topic) {
	current := make(map[string]bool, len(topics))
	for _, t := range topics {
		current[t.Name] = true
	}
	for name := range f.seen {
		if !current[name] {
			f.metrics.forget(name)
		}
	}
	f.seen = current
}

// tidy counts the messages of topics and takes over those of dead deliverers. A topic that fails stops no other.
func (f *Firer) tidy(ctx context.Context, topics []Topic) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	counts, failed := f.box.Count(ctx, topics)
	for i, t := range topics {
		if failed[i] == nil {
			f.metrics.count(t.Name, counts[i])
			if counts[i].Firing > 0 && !f.barred() {
				failed[i] = apart.Try(func() error { return f.reclaim(ctx, t) })
			}
		}
		if begun, _ := f.untidy.Note(t.Name, failed[i]); begun && ctx.Err() == nil {
			f.log.WarnContext(ctx, "delayed messages not looked after, will keep trying", "topic", t.Name, "error", failed[i])
		}
	}
}

func (f *Firer) reclaim(ctx context.Context, t Topic) error {
	again, dead, id, err := f.box.reclaim(ctx, t)
	if err != nil || again+dead == 0 {
		return err
	}
	f.metrics.fired.WithLabelValues(t.Name, countReclaimed).Add(float64(again + dead))
	f.log.WarnContext(ctx, "delayed messages taken over: their deliverer did not report", "topic", t.Name, "due_again", again, "dead", dead)
	if dead > 0 {
		f.metrics.fired.WithLabelValues(t.Name, countDead).Add(float64(dead))
		f.alarm(ctx, Death{Topic: t, Count: dead, ID: id, Error: unreported})
	}
	return nil
}
