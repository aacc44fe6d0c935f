// Package pull gives the messages of subscriptions to readers who ask for them, wait for them and acknowledge them.
package pull

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/invalid"
	"sluice/internal/killpoint"
)

const (
	// MaxReceive is how many messages one Receive returns at most.
	MaxReceive = delay.MaxBatch
	// MaxWait is how long one Receive waits at most.
	MaxWait = 30 * time.Second
)

// claimTries bounds how often a topic may change under a claim.
const claimTries = 5

// Readers gives messages of pull subscriptions to those who ask for them. A reader holds each for the subscription's
// lease and says what became of it. Any number of readers share a subscription. Safe for concurrent use.
type Readers struct {
	cfg      delay.Config
	topics   *delay.Topics
	messages *message.Store
	onDead   message.OnDead
	counts   readCounts
	waiting  *waiting
}

// ReadersParts is what NewReaders needs.
type ReadersParts struct {
	Config   delay.Config // validated
	Topics   *delay.Topics
	Messages *message.Store
	OnDead   message.OnDead // hears of messages that were given back for the last time
	Registry prometheus.Registerer
}

// NewReaders returns what readers are served by, and registers its metrics.
func NewReaders(p ReadersParts) *Readers {
	return &Readers{cfg: p.Config, topics: p.Topics, messages: p.Messages, onDead: p.OnDead,
		counts: newReadCounts(p.Topics, p.Registry), waiting: newWaiting(p.Topics, p.Messages, p.Config.Poll)}
}

// Receive returns up to most due messages, each leased to the caller. Where none is due it waits for the first, and
// returns none when the time is over. Of a caller whose ctx has ended nothing is leased. A subscription that is off has
// no due messages. Its lease's end counts as a failed attempt. It returns an invalid.Error, ErrNoSubscription,
// ErrNotPull, or an error of the stores.
func (r *Readers) Receive(ctx context.Context, name string, most int, wait time.Duration) ([]Leased, error) {
	var bad invalid.Error
	if most < 1 || most > MaxReceive {
		bad = append(bad, invalid.Field{Field: "max", Detail: fmt.Sprintf("must be between 1 and %d", MaxReceive)})
	}
	if wait < 0 || wait > MaxWait {
		bad = append(bad, invalid.Field{Field: "wait", Detail: fmt.Sprintf("must be between 0s and %s", MaxWait)})
	}
	if len(bad) > 0 {
		return nil, bad
	}
	got, err := r.claim(ctx, name, most)
	if err != nil || len(got) > 0 || wait == 0 {
		return got, err
	}
	return r.await(ctx, name, most, wait)
}

// await claims when the shared look has found something that is due.
func (r *Readers) await(ctx context.Context, name string, most int, wait time.Duration) ([]Leased, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	w := r.waiting.join(name)
	defer r.waiting.leave(w)
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-over.C:
			return nil, nil
		case <-w.wake:
		}
		got, err := r.claim(ctx, name, most)
		if len(got) == most { // there may be more, for the next who waits
			r.waiting.leave(w)
			r.waiting.wakeFirst(name)
		}
		if err != nil || len(got) > 0 {
			return got, err
		}
	}
}

// claim leases due messages. A caller who hangs up does not cut it off: nobody would know of its leases.
func (r *Readers) claim(ctx context.Context, name string, most int) ([]Leased, error) {
	for range claimTries {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		sub, err := r.pulled(ctx, name)
		if err != nil || !sub.On() {
			return nil, err
		}
		killpoint.Pass("delay.receive")
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), message.ClaimTimeout)
		found, err := r.messages.Claim(call, sub, most)
		cancel()
		if newer, stale := errors.AsType[delay.StaleError](err); stale {
			if err := r.topics.CatchUp(ctx, sub.Topic, newer); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		killpoint.Pass("delay.received")
		return r.leased(ctx, sub, found)
	}
	return nil, fmt.Errorf("subscription %s: %w", name, delay.ErrBehind)
}

// leased makes leases of claimed messages, or hands them back where nobody takes them any more.
func (r *Readers) leased(ctx context.Context, sub delay.Subscription, found []message.Claimed) ([]Leased, error) {
	list := make([]Leased, len(found))
	for i, d := range found {
		due := time.UnixMilli(d.Due).UTC()
		list[i] = Leased{ID: d.ID, Attempt: d.Attempt, DueAt: due, Body: d.Body, About: d.About,
			Lease: leaseText(d.Lease), Ends: due.Add(d.Lateness).Add(sub.Lease())}
	}
	if ctx.Err() == nil || len(list) == 0 {
		return list, ctx.Err()
	}
	texts := make([]string, len(list))
	for i, l := range list {
		texts[i] = l.Lease
	}
	_, err := r.GiveBack(ctx, sub.Name, texts)
	return nil, errors.Join(ctx.Err(), err)
}

func (r *Readers) pulled(ctx context.Context, name string) (delay.Subscription, error) {
	sub, err := r.topics.Subscription(ctx, name)
	if err == nil && sub.Kind != delay.Pull {
		err = fmt.Errorf("subscription %s: %w", name, delay.ErrNotPull)
	}
	return sub, err
}
