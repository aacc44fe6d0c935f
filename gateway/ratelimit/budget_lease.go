package ratelimit

import (
	"math"
	"time"

	"sluice/fleet/budgets"
)

// claim is one renewal under way.
type claim struct {
	budgets.Claim
	budget *budget
	term   int64
	alone  int64 // requests that the bucket had passed
	owed   int64 // of those, the tokens that the claim declares as spent
}

// claim measures the demand since the last renewal, which took so long, and says
// what is held and what is wanted.
func (b *budget) claim(instance string, now time.Time, took time.Duration) claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wanted.Store(false)
	asked := b.measure(now)
	b.pending = true
	depth := b.policy.depth()
	c := claim{budget: b, term: b.term, alone: b.alone.Load()}
	// What passed while Redis was away is owed, as far as the budget could have gathered it meanwhile.
	c.owed = min(c.alone, int64(depth*b.part))
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
	if held <= 0 { // whoever has asked may be waiting
		c.Demand = max(c.Demand, float64(asked)/leastDepth)
		c.Wants += asked
	}
	return c
}

// measure takes what happened since the last claim into demand and credit, and
// returns how many requests there were. The caller holds mu.
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

// dealt takes over what Redis has dealt. A share that was claimed under another
// policy is void: the next claim says what is held.
func (b *budget) dealt(c claim, s budgets.Share, now time.Time, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending, b.part = false, s.Part
	if c.term == b.term {
		b.tokens.Add(s.Tokens - c.owed) // below 0 when what it gave back was spent meanwhile: paid from the next share
		b.alone.Add(-c.alone)
		b.credit = max(b.credit-float64(c.alone), 0)
		if c.Held+s.Tokens < c.Wants {
			b.dry.Store(now.Add(max(renewSoon, took)).UnixNano())
		}
	}
	b.kept = b.tokens.Load()
	b.leased.Store(true)
	b.wake()
}
