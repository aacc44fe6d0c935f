package push

import (
	"context"
	"errors"
	"time"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/apart"
	"sluice/internal/killpoint"
)

const (
	storeTries = 4
	storePause = 250 * time.Millisecond
)

// storeAll stores the results of calls until the channel is closed, one batch of each subscription at a time. Meanwhile
// the next batch collects. One whose results cannot be stored delays no other. The slots bound how many results wait
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
		case name := <-ended:
			delete(busy, name)
		}
		for name, all := range waiting {
			if busy[name] {
				continue
			}
			batch := all[:min(len(all), delay.MaxBatch)]
			if waiting[name] = all[len(batch):]; len(waiting[name]) == 0 {
				delete(waiting, name)
			}
			busy[name] = true
			go func() {
				if err := apart.Try(func() error { d.storeBatch(ctx, batch); return nil }); err != nil {
					d.log.ErrorContext(ctx, "storing results of delayed messages panicked",
						"subscription", name, "error", err)
				}
				ended <- name
			}()
		}
	}
}

// collect adds the results that are in the channel already, without waiting.
func (d *Dispatcher) collect(waiting map[string][]result) {
	for range delay.MaxBatch - 1 {
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

// storeBatch stores results of one subscription. It goes on after a stop, for a bounded number of tries. If all fail,
// the leases end and the messages are delivered again. A try after a lost reply finds the leases ended and is counted
// as fenced.
func (d *Dispatcher) storeBatch(ctx context.Context, batch []result) {
	sub := batch[len(batch)-1].target.Subscription
	defer d.slots.release(sub.Name, len(batch))
	outcomes := make([]message.Outcome, len(batch))
	for i, r := range batch {
		outcomes[i] = r.outcome
	}
	ctx = context.WithoutCancel(ctx)
	for try := 1; ; try++ {
		killpoint.Pass("delay.settle")
		stored, err := d.store(ctx, sub, outcomes)
		if err == nil || errors.Is(err, delay.ErrNotReplicated) { // stored, and at worst delivered again
			killpoint.Pass("delay.settled")
			d.report(ctx, sub, outcomes, stored)
			d.watchAgain(sub, outcomes)
			return
		}
		if try == storeTries {
			d.log.ErrorContext(ctx,
				"results of delayed messages not stored: they are delivered again when their lease ends",
				"subscription", sub.Name, "messages", len(batch), "error", err)
			return
		}
		idle(ctx, storePause)
	}
}

// watchAgain lets a subscription be looked at when the first of its messages is due again.
func (d *Dispatcher) watchAgain(sub delay.Subscription, outcomes []message.Outcome) {
	wait := idleLook
	for _, o := range outcomes {
		if in, again := o.Again(); again {
			wait = min(wait, in)
		}
	}
	if wait < idleLook {
		d.watch.soon(sub.Name, wait)
	}
}

func (d *Dispatcher) store(ctx context.Context, sub delay.Subscription, outcomes []message.Outcome) ([]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, message.SettleTimeout)
	defer cancel()
	return d.messages.Settle(ctx, sub, outcomes)
}

// report counts outcomes and reports dead letters.
func (d *Dispatcher) report(ctx context.Context, sub delay.Subscription, outcomes []message.Outcome, stored []bool) {
	counts, dead := message.Tally(sub, outcomes, stored)
	for outcome, n := range counts {
		d.metrics.ended(sub, outcome, n)
	}
	if dead.Count > 0 {
		d.onDead(ctx, dead)
	}
}
