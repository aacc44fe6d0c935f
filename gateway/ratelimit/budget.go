package ratelimit

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	renewEvery = 25 * time.Millisecond  // of a budget that is being spent
	renewSoon  = 5 * time.Millisecond   // when it ran out
	renewIdle  = 250 * time.Millisecond // of one nobody spends
	renewRest  = time.Minute            // after which one nobody spends is not renewed until somebody does
	// without an answer; until it comes this gateway goes on with its last known part
	renewLate = 150 * time.Millisecond
	renewWait = time.Second // for the answer

	renewServers = 16 // of a cluster, asked at a time
	// renewSlack is how many renewals an instance may miss before its part goes to the others.
	renewSlack = 6
	// leastDepth is the least that may lie in a shared budget, in seconds of its rate: what is dealt
	// must survive a late renewal.
	leastDepth = 0.25
	// demandWeight is that of the newest renewal in the mean.
	demandWeight = 0.3
)

// budget is this gateway's side of a rate that all gateways spend together:
// tokens leased from Redis and spent here without asking. While Redis does not
// answer, and in a limiter of its own, a bucket counts instead.
//
// A gateway holds what it spends in a quarter of a second; the rest lies in Redis
// for whoever comes. So having no token says little about the limit: a request
// is refused only where Redis, asked for more, has just dealt less than that.
type budget struct {
	name   string
	leased atomic.Bool // tokens count; else the bucket does
	tokens atomic.Int64
	asked  atomic.Int64 // requests since the last renewal
	alone  atomic.Int64 // requests passed by the bucket since tokens counted last
	dry    atomic.Int64 // until then there is no more than Redis has dealt, unix ns
	wanted atomic.Bool  // somebody waits for the next answer of Redis
	bucket *rate.Limiter

	mu       sync.Mutex
	policy   policy
	term     int64         // of the policy: what was claimed under a higher one is void
	part     float64       // of the rate, as last dealt; 1 before
	demand   float64       // requests per second
	kept     int64         // tokens when they were last dealt
	credit   float64       // of its part, what it has not spent of late
	at       time.Time     // of the last claim
	used     time.Time     // when somebody asked last, as far as claims have seen
	pending  bool          // the last claim has not been answered
	answered chan struct{} // closed with the next answer; nil: nobody waits
}

func newBudget(name string, p policy) *budget {
	return &budget{name: name, policy: p, part: 1, credit: 1, bucket: rate.NewLimiter(rate.Limit(p.rps), p.burst)}
}

// depth is the most tokens that may lie unspent, everywhere together.
func (p policy) depth() float64 { return max(float64(p.burst), p.rps*leastDepth, 1) }

// resize changes the rate; what was used stays used. Of a lower one what is held
// or owed keeps its part, so that the new rate holds at once.
func (b *budget) resize(p policy, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p == b.policy {
		return
	}
	if less := p.depth() / b.policy.depth(); less < 1 {
		scale(&b.tokens, less)
		scale(&b.alone, less)
		b.term++
	}
	b.policy, b.kept = p, b.tokens.Load()
	b.dry.Store(0)
	b.bucket.SetLimitAt(now, rate.Limit(p.rps*b.part))
	b.bucket.SetBurstAt(now, max(int(float64(p.burst)*b.part), 1))
}

// scale makes n smaller, whatever is taken from it meanwhile.
func scale(n *atomic.Int64, by float64) {
	for was := n.Load(); !n.CompareAndSwap(was, int64(float64(was)*by)); was = n.Load() {
	}
}

// allow counts a request and takes a token if there is one. It allocates nothing
// and waits for nobody.
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
		if d = decide(b.bucket, p, now); d.OK {
			b.alone.Add(1)
		}
		return d
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

// uncertain reports that there may be more tokens than this gateway has: in Redis, or at another that gives them back.
func (b *budget) uncertain(now time.Time) bool {
	return b.leased.Load() && b.tokens.Load() <= 0 && now.UnixNano() >= b.dry.Load()
}

// await returns a channel that is closed with the next answer of Redis.
func (b *budget) await() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.answered == nil {
		b.answered = make(chan struct{})
	}
	b.wanted.Store(true)
	return b.answered
}

// wake tells those who wait. The caller holds mu.
func (b *budget) wake() {
	if b.answered != nil {
		close(b.answered)
		b.answered = nil
	}
}

// due tells whether the lease should be renewed now.
func (b *budget) due(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	age, idle := now.Sub(b.at), b.asked.Load() == 0 && b.demand < 1
	switch {
	case b.at.IsZero() || age < 0 || b.wanted.Load():
		return true
	case !b.leased.Load(): // Redis is away
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

// overdue goes on without Redis while a claim has not been answered.
func (b *budget) overdue(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending {
		b.cutOff(now)
	}
}

// silent goes on without Redis: it refuses, or has said nothing for too long.
func (b *budget) silent(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = false
	b.cutOff(now)
}

// cutOff goes on with the part last known: with what is still held, and with what
// has not been spent of that part in the last quarter of a second. The others do
// the same. The caller holds mu.
func (b *budget) cutOff(now time.Time) {
	if b.leased.CompareAndSwap(true, false) {
		mine := b.policy.rps * b.part
		b.bucket.SetLimitAt(now, rate.Limit(mine))
		b.bucket.SetBurstAt(now, max(int(mine*leastDepth), 1))
		b.bucket.AllowN(now, max(int(b.bucket.TokensAt(now))-int(b.credit), 0))
	}
	b.wake()
}
