package ratelimit

import (
	"math"
	"sync"
	"time"
)

const (
	limitShards = 64
	// limitShardBuckets bounds each kind of bucket to 64 × 4096 = 262,144 users or addresses, about 12 MB at the worst.
	limitShardBuckets = 4096
)

// buckets is a bounded map of token buckets, sharded so that requests rarely wait for each other. The keys are hashes:
// of a quarter of a million users two share a bucket once in half a billion such crowds. Nothing in
// it is a pointer, so the garbage collector does not look inside.
type buckets struct {
	shards [limitShards]bucketShard
}

// bucketShard keeps two generations: when the young one is full it becomes the old one, and what
// nobody asked for in the old one's time is forgotten with it.
type bucketShard struct {
	sync.Mutex
	young, old map[uint64]bucket
}

// bucket is how many tokens were missing from a full bucket, and when.
type bucket struct {
	missing float64
	at      int64 // unix ns
}

func newBuckets() *buckets {
	b := &buckets{}
	for i := range b.shards {
		b.shards[i].young = make(map[uint64]bucket)
	}
	return b
}

// allow takes a token from the bucket of key if there is one.
func (b *buckets) allow(key uint64, p policy, now time.Time) Decision {
	if p.off() {
		return Decision{OK: true}
	}
	shard := &b.shards[key%limitShards]
	shard.Lock()
	defer shard.Unlock()
	held := shard.take(key)
	ok := held.spend(p, now.UnixNano())
	shard.put(key, held)
	return held.decide(ok, p)
}

// take returns the bucket of key; a newcomer's is full.
func (s *bucketShard) take(key uint64) bucket {
	if held, ok := s.young[key]; ok {
		return held
	}
	return s.old[key]
}

func (s *bucketShard) put(key uint64, held bucket) {
	s.young[key] = held
	if len(s.young) >= limitShardBuckets/2 {
		s.old, s.young = s.young, make(map[uint64]bucket, limitShardBuckets/2)
	}
}

// spend refills the bucket for the time that has passed and takes one token, or none when there is none.
func (b *bucket) spend(p policy, now int64) bool {
	if passed := now - b.at; passed > 0 {
		b.missing = max(0, b.missing-time.Duration(passed).Seconds()*p.rps)
	}
	// also when the clock was set back: else nothing would flow until it has caught up
	b.at = now
	b.missing = min(b.missing, float64(p.burst)) // after a smaller burst was set
	const rounding = 1e-9
	if b.missing+1 > float64(p.burst)+rounding {
		return false
	}
	b.missing++
	return true
}

func (b *bucket) decide(ok bool, p policy) Decision {
	d := Decision{OK: ok, Policy: p.name}
	d.Limit, d.Window = quota(p.rps)
	d.Next = max(time.Duration(math.Ceil((b.missing+1-float64(p.burst))/p.rps*float64(time.Second))), 0)
	if !ok {
		d.RetryAfter = d.Next
		return d
	}
	d.Remaining = max(int(float64(p.burst)-b.missing), 0)
	return d
}
