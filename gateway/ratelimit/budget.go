package ratelimit

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	renewEvery = 25 * time.Millisecond  // of a budget in use
	renewSoon  = 5 * time.Millisecond   // after it ran out
	renewIdle  = 250 * time.Millisecond // of an unused one
	renewRest  = time.Minute            // after which an unused budget is not renewed until it is used
	// after which, without an answer, this gateway goes on with its last share
	renewLate = 150 * time.Millisecond
	renewWait = time.Second // for the answer

	renewServers = 16 // of a cluster, asked at a time
	// renewSlack is how many renewals an instance may miss before others get its share.
	renewSlack = 6
	// leastDepth is the least size of a shared budget, in seconds of its rate. It must outlast a late renewal.
	leastDepth = 0.25
	// demandWeight is the weight of the newest sample in the mean demand.
	demandWeight = 0.3
)

// budget is this gateway's part of a rate that all gateways share. Tokens are leased from Redis and spent here. While
// Redis does not answer, and without sharing, a local bucket counts instead.
//
// A gateway leases the tokens for a quarter of a second; the rest stays in Redis for others. So a request without a
// token is refused only if Redis has just given less than requested.
type budget struct {
	name     string
	leased   atomic.Bool // leased tokens count, not the bucket
	tokens   atomic.Int64
	asked    atomic.Int64 // requests since the last renewal
	unshared atomic.Int64 // requests that the bucket has passed since leased tokens last counted
	dry      atomic.Int64 // until then Redis has no more tokens, unix ns
	wanted   atomic.Bool  // a request waits for the next answer of Redis
	bucket   *rate.Limiter

	mu       sync.Mutex
	policy   policy
	term     int64         // of the policy: answers to claims of an earlier one are void
	part     float64       // of the rate, as last given; 1 before
	demand   float64       // requests per second
	kept     int64         // tokens after the last answer
	credit   float64       // what it has not spent of its part lately
	at       time.Time     // of the last claim
	used     time.Time     // when the budget was last used, as seen by claims
	pending  bool          // the last claim has no answer yet
	answered chan struct{} // closed at the next answer; nil: no request waits
}

func newBudget(name string, p policy) *budget {
	return &budget{name: name, policy: p, part: 1, credit: 1, bucket: rate.NewLimiter(rate.Limit(p.rps), p.burst)}
}

// depth returns the most unspent tokens of all gateways and Redis together.
func (p policy) depth() float64 { return max(float64(p.burst), p.rps*leastDepth, 1) }

// resize changes the rate; used tokens stay used. A lower rate scales down leased and owed tokens, so that it holds at
// once.
func (b *budget) resize(p policy, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p == b.policy {
		return
	}
	if less := p.depth() / b.policy.depth(); less < 1 {
		scale(&b.tokens, less)
		scale(&b.unshared, less)
		b.term++
	}
	b.policy, b.kept = p, b.tokens.Load()
	b.dry.Store(0)
	b.bucket.SetLimitAt(now, rate.Limit(p.rps*b.part))
	b.bucket.SetBurstAt(now, max(int(float64(p.burst)*b.part), 1))
}

// scale multiplies n by a factor, safely with concurrent changes.
func scale(n *atomic.Int64, by float64) {
	for was := n.Load(); !n.CompareAndSwap(was, int64(float64(was)*by)); was = n.Load() {
	}
}

// allow counts a request and takes a token if there is one. It does not allocate and does not wait.
func (b *budget) allow(p policy, now time.Time) Decision {
	b.asked.Add(1)
	return b.take(p, now)
}

func (b *budget) take(p policy, now time.Time) Decision {
	d := Decision{Policy: p.name}
	d.Limit, d.Window = quota(p.rps)
	for left := b.tokens.Load(); left > 0; left = b.tokens.Load() {
		if b.tokens.CompareAndSwap(left, left-1) {
			d.OK, d.Remaining = true, int(left-1)
			return d
		}
	}
	if !b.leased.Load() {
		if d = takeFromBucket(b.bucket, p, now); d.OK {
			b.unshared.Add(1)
		}
		return d
	}
	d.RetryAfter = max(time.Duration(float64(time.Second)/p.rps), renewEvery)
	return d
}

// takeFromBucket takes a token from the local bucket, if there is one.
func takeFromBucket(bucket *rate.Limiter, p policy, now time.Time) Decision {
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

// uncertain reports whether there may be more tokens in Redis, or at gateways that give them back.
func (b *budget) uncertain(now time.Time) bool {
	return b.leased.Load() && b.tokens.Load() <= 0 && now.UnixNano() >= b.dry.Load()
}

// await returns a channel that is closed at the next answer of Redis.
func (b *budget) await() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.answered == nil {
		b.answered = make(chan struct{})
	}
	b.wanted.Store(true)
	return b.answered
}

// wake wakes waiting requests. The caller must hold mu.
func (b *budget) wake() {
	if b.answered != nil {
		close(b.answered)
		b.answered = nil
	}
}

// due reports whether the lease should be renewed now.
func (b *budget) due(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	age, idle := now.Sub(b.at), b.asked.Load() == 0 && b.demand < 1
	switch {
	case b.at.IsZero() || age < 0 || b.wanted.Load():
		return true
	case !b.leased.Load(): // Redis did not answer
		return age >= renewIdle
	case idle && b.tokens.Load() == 0 && now.Sub(b.used) > renewRest:
		return false
	case idle:
		return age >= renewIdle
	case b.tokens.Load() <= 0:
		return age >= renewSoon
	}
	return age >= renewEvery
}

// overdue switches to the local bucket if a claim has no answer for too long.
func (b *budget) overdue(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending {
		b.cutOff(now)
	}
}

// silent switches to the local bucket, after an error of Redis or no answer.
func (b *budget) silent(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = false
	b.cutOff(now)
}

// cutOff fills the local bucket with the leased tokens. It adds what was not spent of the last known part in the last
// quarter of a second. Other gateways do the same. The caller must hold mu.
func (b *budget) cutOff(now time.Time) {
	if b.leased.CompareAndSwap(true, false) {
		mine := b.policy.rps * b.part
		b.bucket.SetLimitAt(now, rate.Limit(mine))
		b.bucket.SetBurstAt(now, max(int(mine*leastDepth), 1))
		b.bucket.AllowN(now, max(int(b.bucket.TokensAt(now))-int(b.credit), 0))
	}
	b.wake()
}
