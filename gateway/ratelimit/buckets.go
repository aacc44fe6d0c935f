package ratelimit

import (
	"math"
	"sync"
	"time"
)

const (
	limitShards = 64
	// limitShardBuckets bounds each kind of bucket to 64 × 4096 = 262,144 users or addresses, about 12 MB at worst.
	limitShardBuckets = 4096
)

// buckets is a bounded map of token buckets, sharded so that requests rarely wait for each other. Its keys are 64-bit
// hashes, so two users practically never share a bucket. It has no pointers, so the garbage collector skips it.
type buckets struct {
	shards [limitShards]bucketShard
}

// bucketShard has two generations. When the young one is full it becomes the old one. The buckets of the previous old
// one are dropped.
type bucketShard struct {
	sync.Mutex
	young, old map[uint64]bucket
}

// bucket is how many tokens were missing at a moment.
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

// allow takes a token from the bucket of key, if there is one.
func (b *buckets) allow(key uint64, p policy, now time.Time) Decision {
	if p.isOff() {
		return Decision{OK: true}
	}
	shard := &b.shards[key%limitShards]
	shard.Lock()
	defer shard.Unlock()
	held := shard.take(key)
	ok := held.spend(p, now.UnixNano())
	shard.put(key, held)
	return held.decision(ok, p)
}

// take returns the bucket of key; a new one is full.
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

// spend refills the bucket for the time passed and takes a token. It reports false if there is none.
func (b *bucket) spend(p policy, now int64) bool {
	if passed := now - b.at; passed > 0 {
		b.missing = max(0, b.missing-time.Duration(passed).Seconds()*p.rps)
	}
	// also if the clock was set back, or nothing would flow until it catches up
	b.at = now
	b.missing = min(b.missing, float64(p.burst)) // the burst may have become smaller
	const rounding = 1e-9
	if b.missing+1 > float64(p.burst)+rounding {
		return false
	}
	b.missing++
	return true
}

func (b *bucket) decision(ok bool, p policy) Decision {
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
