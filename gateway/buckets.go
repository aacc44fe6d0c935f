package gateway

import (
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	limitShards = 64
	// limitShardBuckets bounds each kind of bucket to 64 × 4096 = 262,144 users or addresses, about 50 MB at the worst.
	limitShardBuckets = 4096
	// evictionSample is how many buckets a newcomer looks at to find one to drop.
	evictionSample = 8
)

// buckets is a bounded map of token buckets, sharded so that requests rarely wait for each other.
type buckets[K comparable] struct {
	seed   maphash.Seed
	shards [limitShards]bucketShard[K]
}

type bucketShard[K comparable] struct {
	sync.Mutex
	held map[K]*bucket
}

type bucket struct {
	limiter *rate.Limiter
	plan    *limitPlan // whose numbers the limiter has
	seen    time.Time
}

func newBuckets[K comparable]() *buckets[K] {
	b := &buckets[K]{seed: maphash.MakeSeed()}
	for i := range b.shards {
		b.shards[i].held = make(map[K]*bucket)
	}
	return b
}

func (b *buckets[K]) allow(key K, plan *limitPlan, p policy, now time.Time) Decision {
	if p.off() {
		return Decision{OK: true}
	}
	shard := &b.shards[maphash.Comparable(b.seed, key)%limitShards]
	shard.Lock()
	defer shard.Unlock()
	held, ok := shard.held[key]
	if !ok {
		shard.makeRoom(p, now)
		held = &bucket{limiter: rate.NewLimiter(rate.Limit(p.rps), p.burst), plan: plan}
		shard.held[key] = held
	}
	if held.plan != plan {
		held.limiter.SetLimitAt(now, rate.Limit(p.rps))
		held.limiter.SetBurstAt(now, p.burst)
		held.plan = plan
	}
	held.seen = now
	return decide(held.limiter, p, now)
}

// makeRoom looks at a few buckets where Go's map iteration happens to start, drops those that have refilled (a new
// one would be the same), and at the cap drops the longest unseen of them.
func (s *bucketShard[K]) makeRoom(p policy, now time.Time) {
	refilled := time.Duration(float64(p.burst) / p.rps * float64(time.Second))
	var oldest K
	var oldestSeen time.Time
	looked := 0
	for key, held := range s.held {
		if looked == evictionSample {
			break
		}
		if now.Sub(held.seen) > refilled {
			delete(s.held, key)
		} else if looked == 0 || held.seen.Before(oldestSeen) {
			oldest, oldestSeen = key, held.seen
		}
		looked++
	}
	if len(s.held) >= limitShardBuckets {
		delete(s.held, oldest)
	}
}
