package pull

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/invalid"
	"sluice/internal/killpoint"
)

const givenBack = "given back by its reader"

// Ack ends messages as delivered. It reports for each lease whether it stood: one that has ended, or was acknowledged
// before, changes nothing. It returns an invalid.Error, ErrNoSubscription or ErrNotPull.
func (r *Readers) Ack(ctx context.Context, name string, leases []string) ([]bool, error) {
	return r.settle(ctx, name, leases, func(_ delay.Subscription, l message.Lease) message.Outcome {
		return l.Delivered()
	})
}

// Nack gives messages back as failed attempts. Each is due again after wait; nil stands for the subscription's
// schedule. After the last attempt it is a dead letter. Its answer is Ack's.
func (r *Readers) Nack(ctx context.Context, name string, leases []string, wait *time.Duration) ([]bool, error) {
	longest := r.cfg.MaxDelay
	if wait != nil && (*wait < 0 || *wait > longest) {
		return nil, invalid.Error{{Field: "delay_ms",
			Detail: fmt.Sprintf("must be between 0 and %d (delay.max_delay)", longest.Milliseconds())}}
	}
	return r.settle(ctx, name, leases, func(sub delay.Subscription, l message.Lease) message.Outcome {
		switch {
		case l.Attempt > sub.Retries:
			return l.Dead(givenBack)
		case wait != nil:
			return l.Retry(*wait, givenBack)
		}
		jitter := 1 + r.cfg.Jitter*rand.Float64() // #nosec G404 -- jitter
		return l.Retry(time.Duration(float64(sub.Wait(l.Attempt))*jitter), givenBack)
	})
}

// GiveBack hands messages back that never reached their reader: they are as they were, and the attempt is not counted.
// It is done even when ctx has ended. Its answer is Ack's.
func (r *Readers) GiveBack(ctx context.Context, name string, leases []string) ([]bool, error) {
	ctx = context.WithoutCancel(ctx)
	return r.settle(ctx, name, leases, func(_ delay.Subscription, l message.Lease) message.Outcome {
		return l.Back()
	})
}

// Extend makes leases end after by from now, which is 1 second to 12 hours. Its answer is Ack's.
func (r *Readers) Extend(ctx context.Context, name string, leases []string, by time.Duration) ([]bool, error) {
	if by < delay.MinLease || by > delay.MaxLease {
		return nil, invalid.Error{{Field: "lease_ms", Detail: fmt.Sprintf("must be between %d and %d",
			delay.MinLease.Milliseconds(), delay.MaxLease.Milliseconds())}}
	}
	sub, err := r.pulled(ctx, name)
	if err != nil {
		return nil, err
	}
	list, at, err := parseLeases(leases)
	if err != nil {
		return nil, err
	}
	stood, err := r.messages.Extend(ctx, sub, by, list)
	return spread(stood, at), err
}

// outcomeOf says what became of a message that a reader held.
type outcomeOf func(sub delay.Subscription, l message.Lease) message.Outcome

// settle stores what became of leased messages.
func (r *Readers) settle(ctx context.Context, name string, leases []string, of outcomeOf) ([]bool, error) {
	sub, err := r.pulled(ctx, name)
	if err != nil {
		return nil, err
	}
	list, at, err := parseLeases(leases)
	if err != nil {
		return nil, err
	}
	outcomes := make([]message.Outcome, len(list))
	for i, l := range list {
		outcomes[i] = of(sub, l)
	}
	ctx, cancel := context.WithTimeout(ctx, message.SettleTimeout)
	defer cancel()
	killpoint.Pass("delay.ack")
	stood, err := r.messages.Settle(ctx, sub, outcomes)
	if err != nil && !errors.Is(err, delay.ErrNotReplicated) {
		return nil, err
	}
	killpoint.Pass("delay.acked")
	if dead := r.counts.add(sub, outcomes, stood); dead.Count > 0 && r.onDead != nil {
		r.onDead(ctx, dead)
	}
	return spread(stood, at), err
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
