package delay

import (
	"context"
	"time"
)

// keepEvery is how often messages are counted and those of dead deliverers looked for.
const keepEvery = time.Second

// keep is the housekeeping loop: the gauges, and messages whose lease has run out, also of topics that are off.
func (f *Firer) keep(ctx context.Context) {
	for {
		if err := f.tidy(ctx); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "delayed messages not looked after, will keep trying", "error", err)
		}
		if idle(ctx, nil, keepEvery) != nil {
			return
		}
	}
}

func (f *Firer) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	topics := f.topics.All()
	counts, err := f.box.Count(ctx, topics)
	if err != nil {
		return err
	}
	current := make(map[string]bool, len(topics))
	for i, t := range topics {
		current[t.Name] = true
		f.metrics.count(t.Name, counts[i])
		if counts[i].Firing == 0 || f.barred() {
			continue
		}
		if err := f.reclaim(ctx, t); err != nil {
			return err
		}
	}
	for name := range f.seen {
		if !current[name] {
			f.metrics.forget(name)
		}
	}
	f.seen = current
	return nil
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
