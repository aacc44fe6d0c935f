package delay

import (
	"context"
	"time"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
)

const (
	storeTries   = 4
	storeTimeout = 3 * time.Second
	storePause   = 250 * time.Millisecond
)

// storeAll stores the results of calls until the channel is closed, one batch of each topic at a time. Meanwhile the
// next batch collects. A topic whose results cannot be stored delays no other. The slots bound how many results wait
// here.
func (d *Dispatcher) storeAll(ctx context.Context) {
	waiting, busy, ended := map[string][]result{}, map[string]bool{}, make(chan string)
	for results := (<-chan result)(d.results); results != nil || len(busy) > 0; {
		select {
		case r, more := <-results:
			if !more {
				results = nil
				break
			}
			waiting[r.target.Name] = append(waiting[r.target.Name], r)
			d.collect(waiting)
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
				if err := apart.Try(func() error { d.storeBatch(ctx, topic, batch); return nil }); err != nil {
					d.log.ErrorContext(ctx, "storing results of delayed messages panicked", "topic", topic, "error",
						err)
				}
				ended <- topic
			}()
		}
	}
}

// collect adds the results that are in the channel already, without waiting.
func (d *Dispatcher) collect(waiting map[string][]result) {
	for range maxBatch - 1 {
		select {
		case r, more := <-d.results:
			if !more {
				return
			}
			waiting[r.target.Name] = append(waiting[r.target.Name], r)
		default:
			return
		}
	}
}

// storeBatch stores results of one topic. It goes on after a stop, for a bounded number of tries. If all fail, the
// leases end and the messages are delivered again. A try after a lost reply finds the leases ended and is counted as
// fenced.
func (d *Dispatcher) storeBatch(ctx context.Context, topic string, batch []result) {
	defer d.slots.release(topic, len(batch))
	outcomes := make([]outcome, len(batch))
	for i, r := range batch {
		outcomes[i] = r.outcome
	}
	ctx = context.WithoutCancel(ctx)
	for try := 1; ; try++ {
		killpoint.Pass("delay.settle")
		stored, err := d.store(ctx, topic, outcomes)
		if err == nil {
			killpoint.Pass("delay.settled")
			d.report(ctx, batch, stored)
			return
		}
		if try == storeTries {
			d.log.ErrorContext(ctx,
				"results of delayed messages not stored: they are delivered again when their lease ends",
				"topic", topic, "messages", len(batch), "error", err)
			return
		}
		_ = idle(ctx, nil, storePause)
	}
}

func (d *Dispatcher) store(ctx context.Context, topic string, outcomes []outcome) ([]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return d.messages.settle(ctx, topic, outcomes)
}

// report counts the outcomes of a batch and reports its dead letters.
func (d *Dispatcher) report(ctx context.Context, batch []result, stored []bool) {
	counts := map[string]int{}
	dead := DeadReport{Topic: batch[len(batch)-1].target.Topic}
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
			dead.Count, dead.ID, dead.Error = dead.Count+1, r.outcome.ID, r.outcome.err
		}
	}
	for outcome, n := range counts {
		d.metrics.calls.WithLabelValues(dead.Topic.Name, outcome).Add(float64(n))
	}
	if dead.Count > 0 {
		d.onDead(ctx, dead)
	}
}
