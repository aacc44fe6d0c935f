package delay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/invalid"
	"sluice/internal/killpoint"
)

const (
	// MaxReceive is how many messages one Receive returns at most.
	MaxReceive = maxBatch
	// MaxWait is how long one Receive waits at most.
	MaxWait = 30 * time.Second
)

const givenBack = "given back by its reader"

// Readers gives messages of pull subscriptions to those who ask for them. A reader holds each for the subscription's
// lease and says what became of it. Any number of readers share a subscription. Safe for concurrent use.
type Readers struct {
	topics   *Topics
	messages *Store
	onDead   OnDead
	counts   readCounts
	waiting  *waiting
}

// ReadersParts is what NewReaders needs.
type ReadersParts struct {
	Topics   *Topics
	Messages *Store
	OnDead   OnDead // hears of messages that were given back for the last time
	Registry prometheus.Registerer
}

// NewReaders returns what readers are served by, and registers its metrics.
func NewReaders(p ReadersParts) *Readers {
	return &Readers{topics: p.Topics, messages: p.Messages, onDead: p.OnDead,
		counts: newReadCounts(p.Topics, p.Registry), waiting: newWaiting(p.Topics, p.Messages)}
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
	for range addTries {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		sub, err := r.pulled(ctx, name)
		if err != nil || !sub.On() {
			return nil, err
		}
		killpoint.Pass("delay.receive")
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTimeout)
		found, err := r.messages.claim(call, sub, most)
		cancel()
		if newer, stale := errors.AsType[staleError](err); stale {
			if err := r.topics.catchUp(ctx, sub.Topic, newer); err != nil {
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
	return nil, fmt.Errorf("subscription %s: %w", name, ErrBehind)
}

// leased makes leases of claimed messages, or hands them back where nobody takes them any more.
func (r *Readers) leased(ctx context.Context, sub Subscription, found []delivery) ([]Leased, error) {
	list := make([]Leased, len(found))
	for i, d := range found {
		due := time.UnixMilli(d.Due).UTC()
		list[i] = Leased{ID: d.ID, Attempt: d.Attempt, DueAt: due, Body: d.Body,
			Lease: lease{d.ID, d.token, d.Attempt, d.Due}.String(), Ends: due.Add(d.lateness).Add(sub.Lease())}
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

func (r *Readers) pulled(ctx context.Context, name string) (Subscription, error) {
	sub, err := r.topics.Subscription(ctx, name)
	if err == nil && sub.Kind != Pull {
		err = fmt.Errorf("subscription %s: %w", name, ErrNotPull)
	}
	return sub, err
}

// Ack ends messages as delivered. It reports for each lease whether it stood: one that has ended, or was acknowledged
// before, changes nothing. It returns an invalid.Error, ErrNoSubscription or ErrNotPull.
func (r *Readers) Ack(ctx context.Context, name string, leases []string) ([]bool, error) {
	return r.settle(ctx, name, leases, func(_ Subscription, l lease) outcome {
		return outcome{ID: l.id, token: l.token, op: opDelivered}
	})
}

// Nack gives messages back as failed attempts. Each is due again after wait, or nil, as the subscription's schedule
// says; after the last attempt it is a dead letter. Its answer is Ack's.
func (r *Readers) Nack(ctx context.Context, name string, leases []string, wait *time.Duration) ([]bool, error) {
	longest := r.messages.cfg.MaxDelay
	if wait != nil && (*wait < 0 || *wait > longest) {
		return nil, invalid.Error{{Field: "delay_ms",
			Detail: fmt.Sprintf("must be between 0 and %d (delay.max_delay)", longest.Milliseconds())}}
	}
	return r.settle(ctx, name, leases, func(sub Subscription, l lease) outcome {
		out := outcome{ID: l.id, token: l.token, op: opRetry, err: givenBack}
		switch {
		case l.attempt > sub.Retries:
			out.op = opDead
		case wait != nil:
			out.value = wait.Milliseconds()
		default:
			jitter := 1 + r.messages.cfg.Jitter*rand.Float64() // #nosec G404 -- jitter
			out.value = time.Duration(float64(sub.wait(l.attempt)) * jitter).Milliseconds()
		}
		return out
	})
}

// GiveBack hands messages back that never reached their reader: they are as they were, and the attempt is not counted.
// It is done even when ctx has ended. Its answer is Ack's.
func (r *Readers) GiveBack(ctx context.Context, name string, leases []string) ([]bool, error) {
	return r.settle(context.WithoutCancel(ctx), name, leases, func(_ Subscription, l lease) outcome {
		return outcome{ID: l.id, token: l.token, op: opBack, value: l.due}
	})
}

// Extend makes leases end after by from now, which is 1 second to 12 hours. Its answer is Ack's.
func (r *Readers) Extend(ctx context.Context, name string, leases []string, by time.Duration) ([]bool, error) {
	if by < minLease || by > maxLease {
		return nil, invalid.Error{{Field: "lease_ms", Detail: fmt.Sprintf("must be between %d and %d",
			minLease.Milliseconds(), maxLease.Milliseconds())}}
	}
	sub, err := r.pulled(ctx, name)
	if err != nil {
		return nil, err
	}
	list, at, err := parseLeases(leases)
	if err != nil {
		return nil, err
	}
	stood, err := r.messages.extend(ctx, sub, by, list)
	return spread(stood, at), err
}

// settle stores what became of leased messages.
func (r *Readers) settle(ctx context.Context, name string, leases []string, of func(Subscription, lease) outcome,
) ([]bool, error) {
	sub, err := r.pulled(ctx, name)
	if err != nil {
		return nil, err
	}
	list, at, err := parseLeases(leases)
	if err != nil {
		return nil, err
	}
	outcomes := make([]outcome, len(list))
	for i, l := range list {
		outcomes[i] = of(sub, l)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	killpoint.Pass("delay.ack")
	stood, err := r.messages.settle(ctx, sub, outcomes)
	if err != nil {
		return nil, err
	}
	killpoint.Pass("delay.acked")
	if dead := r.counts.add(sub, outcomes, stood); dead.Count > 0 && r.onDead != nil {
		r.onDead(ctx, dead)
	}
	return spread(stood, at), nil
}

// spread gives each lease of a call its answer.
func spread(stood []bool, at []int) []bool {
	if stood == nil {
		return nil
	}
	all := make([]bool, len(at))
	for i, place := range at {
		all[i] = stood[place]
	}
	return all
}
