package delay

import (
	"sync"
	"time"
)

// slots bounds what one process delivers at a time, in all and for each subscription. A slot is taken before a message
// is claimed and given back when its outcome is stored. So no message waits for a worker in memory.
type slots struct {
	total, each int

	mu     sync.Mutex
	taken  int
	byName map[string]int // by subscription
}

func newSlots(all, each int) *slots {
	return &slots{total: all, each: each, byName: map[string]int{}}
}

// reserve takes up to most slots for a subscription and returns how many it took.
func (s *slots) reserve(sub string, most int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := max(min(most, s.total-s.taken, s.each-s.byName[sub]), 0)
	s.taken += n
	s.byName[sub] += n
	return n
}

// release gives back n slots of a subscription.
func (s *slots) release(sub string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken -= n
	if s.byName[sub] -= n; s.byName[sub] == 0 {
		delete(s.byName, sub)
	}
}

// backoffs remembers how long each subscription or server is left alone after a failure. The pause doubles with each
// failure in a row. Safe for concurrent use.
type backoffs struct {
	now         func() time.Time
	first, most time.Duration

	mu    sync.Mutex
	byKey map[string]backoff // by key
}

type backoff struct {
	pause time.Duration
	until time.Time
}

func newBackoffs(now func() time.Time, first, most time.Duration) *backoffs {
	return &backoffs{now: now, first: first, most: most, byKey: map[string]backoff{}}
}

// record notes the outcome of a call for a key: nil, a success, ends its pause.
func (b *backoffs) record(key string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		delete(b.byKey, key)
		return
	}
	pause := min(max(2*b.byKey[key].pause, b.first), b.most)
	b.byKey[key] = backoff{pause, b.now().Add(pause)}
}

// remaining returns how much longer a key is left alone, or 0 or less if it is not.
func (b *backoffs) remaining(key string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if one, ok := b.byKey[key]; ok {
		return one.until.Sub(b.now())
	}
	return 0
}
