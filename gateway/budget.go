package gateway

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sluice/queue"
)

const (
	renewEvery = 25 * time.Millisecond  // of a budget that is being spent
	renewSoon  = 5 * time.Millisecond   // when it ran out
	renewIdle  = 250 * time.Millisecond // of one nobody spends
	renewWait  = 150 * time.Millisecond // for Redis; then this gateway goes on with its last known part
	// renewSlack is how many renewals an instance may miss before its part goes to the others.
	renewSlack = 6
	// leastDepth is the least that may lie in a shared budget, in seconds of its rate: what is dealt must survive a late renewal.
	leastDepth = 0.25
	// demandWeight is that of the newest renewal in the mean.
	demandWeight = 0.3
)

// budget is this gateway's side of a rate that all gateways spend together: tokens leased from Redis and spent here without asking. While
// Redis does not answer, and in a limiter of its own, a bucket counts instead.
type budget struct {
	name   string
	leased atomic.Bool // tokens count; else the bucket does
	tokens atomic.Int64
	asked  atomic.Int64 // requests since the last renewal
	alone  atomic.Int64 // requests passed by the bucket since tokens counted last
	bucket *rate.Limiter

	mu     sync.Mutex
	policy policy
	part   float64 // of the rate, as last dealt; 1 before
	demand float64 // requests per second
	owed   int64   // tokens spent alone that the claim under way declares
	at     time.Time
}

func newBudget(name string, p policy) *budget {
	return &budget{name: name, policy: p, part: 1, bucket: rate.NewLimiter(rate.Limit(p.rps), p.burst)}
}

// resize changes the rate; what was used stays used.
func (b *budget) resize(p policy, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.policy = p
	b.bucket.SetLimitAt(now, rate.Limit(p.rps*b.part))
	b.bucket.SetBurstAt(now, max(int(float64(p.burst)*b.part), 1))
}

// allow takes a token if there is one. It allocates nothing and waits for nobody.
func (b *budget) allow(p policy, now time.Time) Decision {
	b.asked.Add(1)
	if !b.leased.Load() {
		d := decide(b.bucket, p, now)
		if d.OK {
			b.alone.Add(1)
		}
		return d
	}
	d := Decision{Policy: p.name}
	d.Limit, d.Window = quota(p.rps)
	for left := b.tokens.Load(); left > 0; left = b.tokens.Load() {
		if b.tokens.CompareAndSwap(left, left-1) {
			d.OK, d.Remaining = true, int(left-1)
			return d
		}
	}
	d.RetryAfter = max(time.Duration(float64(time.Second)/p.rps), renewEvery)
	return d
}

// decide takes a token from the bucket if there is one.
func decide(bucket *rate.Limiter, p policy, now time.Time) Decision {
	d := Decision{OK: bucket.AllowN(now, 1), Policy: p.name}
	d.Limit, d.Window = quota(p.rps)
	tokens := bucket.TokensAt(now)
	d.Remaining = max(int(tokens), 0)
	if !d.OK {
		d.Remaining = 0
		d.RetryAfter = time.Duration(math.Ceil((1 - tokens) / p.rps * float64(time.Second)))
	}
	return d
}

// due tells whether the lease should be renewed now.
func (b *budget) due(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	age := now.Sub(b.at)
	switch {
	case b.at.IsZero() || age < 0:
		return true
	case !b.leased.Load(): // Redis is away
		return age >= renewIdle
	case b.asked.Load() == 0 && b.demand < 1:
		return age >= renewIdle
	case b.tokens.Load() <= 0:
		return age >= renewSoon
	}
	return age >= renewEvery
}

// claim measures the demand since the last renewal.
func (b *budget) claim(instance string, now time.Time) queue.Claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.at.IsZero() {
		seconds := max(now.Sub(b.at), time.Millisecond).Seconds()
		weight := 1 - math.Pow(1-demandWeight, seconds/renewEvery.Seconds())
		b.demand += weight * (float64(b.asked.Swap(0))/seconds - b.demand)
	}
	b.at = now
	depth := max(float64(b.policy.burst), b.policy.rps*leastDepth, 1)
	// What passed while Redis was away is owed, as far as the budget could have gathered it meanwhile.
	b.owed = min(b.alone.Load(), int64(depth*b.part))
	lapse := renewSlack * renewEvery
	if b.demand < 1 {
		lapse = renewSlack * renewIdle
	}
	return queue.Claim{Budget: b.name, Instance: instance, Rate: b.policy.rps, Depth: depth, Demand: b.demand,
		Held: b.tokens.Load() - b.owed, Lapse: lapse}
}

func (b *budget) dealt(s queue.Share) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.part = s.Part
	b.tokens.Add(s.Tokens - b.owed) // below 0 when what it gave back was spent meanwhile: paid from the next share
	b.leased.Store(true)
	b.alone.Store(0)
}

// cutOff goes on with the part last known, without a burst: the others do the same.
func (b *budget) cutOff(now time.Time) {
	if !b.leased.CompareAndSwap(true, false) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bucket.SetLimitAt(now, rate.Limit(b.policy.rps*b.part))
	b.bucket.SetBurstAt(now, max(int(b.policy.rps*b.part*leastDepth), 1))
	b.bucket.AllowN(now, int(b.bucket.TokensAt(now)))
}

// Run keeps this gateway's shares of the global limits renewed until ctx ends, and gives them back then. Without Shared it returns at once.
func (l *Limiter) Run(ctx context.Context) {
	if l.shares == nil {
		return
	}
	tick := time.NewTicker(renewSoon)
	defer tick.Stop()
	for {
		l.Renew(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			l.leave()
			return
		}
	}
}

// Renew leases what is due from Redis. Run does it all the time; called before, it spares the first requests a refusal.
func (l *Limiter) Renew(ctx context.Context) {
	budgets := l.plan.Load().budgets()
	var due []*budget
	var claims []queue.Claim
	for _, b := range budgets {
		if now := l.now(); b.due(now) {
			due, claims = append(due, b), append(claims, b.claim(l.instance, now))
		}
	}
	if len(due) == 0 {
		return
	}
	call, cancel := context.WithTimeout(ctx, renewWait)
	defer cancel()
	shares, err := l.shares.RenewAll(call, claims)
	if err != nil {
		for _, all := range budgets { // they are all in the same Redis
			all.cutOff(l.now())
		}
		return
	}
	for i, b := range due {
		b.dealt(shares[i])
	}
}

func (l *Limiter) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), renewWait)
	defer cancel()
	for _, b := range l.plan.Load().budgets() {
		if l.shares.Leave(ctx, b.claim(l.instance, l.now())) != nil {
			return // it lapses by itself
		}
		b.tokens.Store(0)
	}
}
