package ratelimit

import (
	"math"
	"time"

	"sluice/fleet/budgets"
)

// claim is one renewal in progress.
type claim struct {
	budgets.Claim
	budget   *budget
	term     int64
	unshared int64 // requests that the local bucket had passed
	owed     int64 // how many of these the claim declares as spent
}

// claim measures the demand since the last renewal and returns the request of the next: the tokens held and wanted.
// took is the duration of the last renewal.
func (b *budget) claim(instance string, now time.Time, took time.Duration) claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wanted.Store(false)
	asked := b.measure(now)
	b.pending = true
	depth := b.policy.depth()
	c := claim{budget: b, term: b.term, unshared: b.unshared.Load()}
	// What passed without Redis is owed, up to what the budget could have gathered meanwhile.
	c.owed = min(c.unshared, int64(depth*b.part))
	held := b.tokens.Load() - c.owed
	if beyond := -int64(depth) - held; beyond > 0 {
		held += beyond
		b.tokens.Add(beyond)
	}
	every := renewEvery
	if b.demand < 1 {
		every = renewIdle
	}
	c.Claim = budgets.Claim{Budget: b.name, Instance: instance, Rate: b.policy.rps, Depth: depth,
		Demand: b.demand, Held: held,
		Wants: int64(b.demand * leastDepth), Lapse: renewSlack * max(every, took)}
	if held <= 0 { // requests may be waiting
		c.Demand = max(c.Demand, float64(asked)/leastDepth)
		c.Wants += asked
	}
	return c
}

// measure updates demand and credit with the time since the last claim, and returns how many requests there were. The
// caller must hold mu.
func (b *budget) measure(now time.Time) (asked int64) {
	asked = b.asked.Swap(0)
	if b.at.IsZero() || asked > 0 {
		b.used = now
	}
	if !b.at.IsZero() {
		seconds := max(now.Sub(b.at), time.Millisecond).Seconds()
		weight := 1 - math.Pow(1-demandWeight, seconds/renewEvery.Seconds())
		b.demand += weight * (float64(asked)/seconds - b.demand)
		mine, spent := b.policy.rps*b.part, float64(b.kept-b.tokens.Load())
		b.credit = min(max(b.credit+mine*seconds-spent, 0), max(mine*leastDepth, 1))
	}
	b.at, b.kept = now, b.tokens.Load()
	return asked
}

// applyShare takes over the tokens that Redis has given. It ignores an answer to a claim of another policy; the next
// claim declares what is held.
func (b *budget) applyShare(c claim, s budgets.Share, now time.Time, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending, b.part = false, s.Part
	if c.term == b.term {
		b.tokens.Add(s.Tokens - c.owed) // below 0 if returned tokens were spent meanwhile; the next share pays for them
		b.unshared.Add(-c.unshared)
		b.credit = max(b.credit-float64(c.unshared), 0)
		if c.Held+s.Tokens < c.Wants {
			b.dry.Store(now.Add(max(renewSoon, took)).UnixNano())
		}
	}
	b.kept = b.tokens.Load()
	b.leased.Store(true)
	b.wake()
}
