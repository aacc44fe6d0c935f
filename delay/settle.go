package delay

import (
	"context"
	"time"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
)

const (
	settleTries   = 4
	settleTimeout = 3 * time.Second
	settlePause   = 250 * time.Millisecond
)

// settleAll stores the results of calls until there will be no more, one batch of each topic at a time: while it is being stored the
// next collects. A topic whose results cannot be stored keeps no other's slots. What waits here is bounded by the slots.
func (f *Firer) settleAll(ctx context.Context) {
	waiting, busy, ended := map[string][]result{}, map[string]bool{}, make(chan string)
	for results := (<-chan result)(f.results); results != nil || len(busy) > 0; {
		select {
		case r, more := <-results:
			if !more {
				results = nil
				break
			}
			waiting[r.target.Name] = append(waiting[r.target.Name], r)
			f.gather(waiting)
		case topic := <-ended:
			delete(busy, topic)
		}
		for topic, all := range waiting {
			if busy[topic] {
				continue
			}
			batch := all[:min(len(all), maxBatch)]
			if waiting[topic] = all[len(batch):]; len(waiting[topic]) == 0 {
				delete(waiting, topic)
			}
			busy[topic] = true
			go func() {
				if err := apart.Try(func() error { f.settle(ctx, topic, batch); return nil }); err != nil {
					f.log.ErrorContext(ctx, "storing results of delayed messages panicked", "topic", topic, "error", err)
				}
				ended <- topic
			}()
		}
	}
}

// gather adds the results that are there already.
func (f *Firer) gather(waiting map[string][]result) {
	for range maxBatch - 1 {
		select {
		case r, more := <-f.results:
			if !more {
				return
			}
			waiting[r.target.Name] = append(waiting[r.target.Name], r)
		default:
			return
		}
	}
}

// settle stores results of one topic. It outlives the stop, bounded by its tries; if it fails, the leases end and the messages are
// delivered again. A repeat after a lost reply finds its leases gone and is counted as fenced.
func (f *Firer) settle(ctx context.Context, topic string, batch []result) {
	defer f.slots.give(topic, len(batch))
	outcomes := make([]verdict, len(batch))
	for i, r := range batch {
		outcomes[i] = r.outcome
	}
	ctx = context.WithoutCancel(ctx)
	for try := 1; ; try++ {
		killpoint.Pass("delay.settle")
		stored, err := f.store(ctx, topic, outcomes)
		if err == nil {
			killpoint.Pass("delay.settled")
			f.report(ctx, batch, stored)
			return
		}
		if try == settleTries {
			f.log.ErrorContext(ctx, "results of delayed messages not stored: they are delivered again when their lease ends",
				"topic", topic, "messages", len(batch), "error", err)
			return
		}
		_ = idle(ctx, nil, settlePause)
	}
}

func (f *Firer) store(ctx context.Context, topic string, outcomes []verdict) ([]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return f.box.settle(ctx, topic, outcomes)
}

// report counts a batch and raises the alarm over what died in it.
func (f *Firer) report(ctx context.Context, batch []result, stored []bool) {
	counts := map[string]int{}
	death := Death{Topic: batch[len(batch)-1].target.Topic}
	for i, r := range batch {
		switch {
		case !stored[i]:
			counts[countFenced]++
		case r.outcome.op == opDelivered:
			counts[countDelivered]++
		case r.outcome.op == opRetry:
			counts[countRetry]++
		case r.outcome.op == opBack:
			counts[countReleased]++
		default:
			counts[countDead]++
			death.Count, death.ID, death.Error = death.Count+1, r.outcome.ID, r.outcome.err
		}
	}
	for outcome, n := range counts {
		f.metrics.fired.WithLabelValues(death.Topic.Name, outcome).Add(float64(n))
	}
	if death.Count > 0 {
		f.alarm(ctx, death)
	}
}
