package ratelimit

import (
	"context"
	"maps"
	"slices"
	"time"

	"sluice/fleet/budgets"
	"sluice/internal/apart"
)

// Shared makes the global limits count over all gateways with the same shares, from the first Renew on. The caller must
// call Run. instance names this gateway.
func (l *Limiter) Shared(shares *budgets.Store, instance string) *Limiter {
	l.shares, l.instance, l.wanted = shares, instance, make(chan struct{}, 1)
	return l
}

// AllowTotal counts a request for a sale against the limit of all gateways together. Without a token it waits for
// Redis, at most renewLate, unless Redis has no more.
func (l *Limiter) AllowTotal(ctx context.Context, sale string) Decision {
	s := l.plan.Load().scopeFor(sale)
	if s.total.isOff() {
		return Decision{OK: true}
	}
	if d := s.budget.allow(s.total, l.now()); d.OK || !s.budget.uncertain(l.now()) {
		return d
	}
	return l.awaitToken(ctx, s.budget, s.total)
}

// awaitToken waits for Redis' next answer and takes a token if there is one. Without an answer in time it decides by
// the local bucket.
func (l *Limiter) awaitToken(ctx context.Context, b *budget, p policy) Decision {
	patience := time.NewTimer(renewLate)
	defer patience.Stop()
	for {
		answered := b.await()
		select {
		case l.wanted <- struct{}{}:
		default: // Run will renew anyway
		}
		select {
		case <-answered:
		case <-patience.C:
			b.silent(l.now())
			return b.take(p, l.now())
		case <-ctx.Done():
			return b.take(p, l.now())
		}
		if d := b.take(p, l.now()); d.OK || !b.uncertain(l.now()) {
			return d
		}
	}
}

// Run renews this gateway's shares of the global limits until ctx ends, then gives them back. Without Shared it returns
// at once.
func (l *Limiter) Run(ctx context.Context) {
	if l.shares == nil {
		return
	}
	rounds := apart.New(renewServers, renewEvery)
	defer rounds.Wait()
	tick := time.NewTicker(renewSoon)
	defer tick.Stop()
	for {
		l.renew(ctx, rounds)
		select {
		case <-tick.C:
		case <-l.wanted:
		case <-ctx.Done():
			l.giveBack()
			return
		}
	}
}

// Renew renews the due shares. Run does that all the time; an earlier call spares the first requests a wait. Calls must
// not overlap.
func (l *Limiter) Renew(ctx context.Context) { l.renew(ctx, apart.New(renewServers, 0)) }

// renew renews the budgets of each server, in a turn of its own.
func (l *Limiter) renew(ctx context.Context, rounds *apart.Rounds) {
	due, began := map[string]*budget{}, l.now()
	for _, b := range l.plan.Load().budgets() {
		if b.due(began) {
			due[b.name] = b
		}
	}
	if len(due) == 0 {
		return
	}
	on := l.shares.ByServer(ctx, slices.Sorted(maps.Keys(due)))
	rounds.Round(ctx, slices.Sorted(maps.Keys(on)), func(ctx context.Context, server string) error {
		some := make([]*budget, len(on[server]))
		for i, name := range on[server] {
			some[i] = due[name]
		}
		l.renewSome(ctx, some)
		return nil
	}, func(string, error) {})
}

// renewSome renews budgets of one server. Until it answers, each budget counts by itself.
func (l *Limiter) renewSome(ctx context.Context, some []*budget) {
	began := l.now()
	due, claims := make([]claim, len(some)), make([]budgets.Claim, len(some))
	for i, b := range some {
		due[i] = b.claim(l.instance, began, time.Duration(l.took.Load()))
		claims[i] = due[i].Claim
	}
	call, cancel := context.WithTimeout(ctx, renewWait)
	defer cancel()
	late := time.AfterFunc(renewLate, func() {
		for _, c := range due {
			c.budget.overdue(l.now())
		}
	})
	defer late.Stop()
	shares := l.shares.Renew(call, claims)
	now := l.now()
	took := max(now.Sub(began), 0)
	l.took.Store(int64(took))
	for i, c := range due {
		if shares[i].Err != nil {
			c.budget.silent(now)
			continue
		}
		c.budget.applyShare(c, shares[i], now, took)
	}
}

func (l *Limiter) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), renewLate)
	defer cancel()
	for _, b := range l.plan.Load().budgets() {
		if l.shares.Leave(ctx, b.claim(l.instance, l.now(), 0).Claim) != nil {
			return // the share expires by itself
		}
		b.tokens.Store(0)
	}
}
