package ratelimit

import (
	"context"
	"maps"
	"slices"
	"time"

	"sluice/fleet/budgets"
	"sluice/internal/apart"
)

// Shared makes the global limits count over all gateways with the same budgets, from the first
// Renew on. The caller runs Run. instance names this gateway among them.
func (l *Limiter) Shared(shares *budgets.Store, instance string) *Limiter {
	l.shares, l.instance, l.wanted = shares, instance, make(chan struct{}, 1)
	return l
}

// AllowTotal counts a request for a sale against what all gateways together
// take. Where this gateway has no token left it waits for Redis, for as long as
// renewLate, unless Redis has just dealt all there was.
func (l *Limiter) AllowTotal(ctx context.Context, sale string) Decision {
	s := l.plan.Load().of(sale)
	if s.total.off() {
		return Decision{OK: true}
	}
	if d := s.budget.allow(s.total, l.now()); d.OK || !s.budget.uncertain(l.now()) {
		return d
	}
	return l.ask(ctx, s.budget, s.total)
}

// ask takes a token once Redis has dealt one, or has said that there is none. It
// goes on without Redis when that is silent for too long.
func (l *Limiter) ask(ctx context.Context, b *budget, p policy) Decision {
	patience := time.NewTimer(renewLate)
	defer patience.Stop()
	for {
		answered := b.await()
		select {
		case l.wanted <- struct{}{}:
		default: // Run will look anyway
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

// Run keeps this gateway's shares of the global limits renewed until ctx ends, and gives them back
// then. Without Shared it returns at once.
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
			l.leave()
			return
		}
	}
}

// Renew leases what is due from Redis. Run does it all the time; called before, it spares the first
// requests a wait. Calls must not overlap each other.
func (l *Limiter) Renew(ctx context.Context) { l.renew(ctx, apart.New(renewServers, 0)) }

// renew asks each server for the budgets that it holds, in a turn of its own.
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

// renewSome leases budgets from the server that holds them. Until it answers, each goes on alone.
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
		c.budget.dealt(c, shares[i], now, took)
	}
}

func (l *Limiter) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), renewLate)
	defer cancel()
	for _, b := range l.plan.Load().budgets() {
		if l.shares.Leave(ctx, b.claim(l.instance, l.now(), 0).Claim) != nil {
			return // it lapses by itself
		}
		b.tokens.Store(0)
	}
}
