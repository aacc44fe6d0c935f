package delay

import (
	"sync"
	"time"
)

// slots bounds what one process delivers at a time, in all and for each topic. A slot is taken before a message is
// claimed and given back when its outcome is stored. So no message waits in memory for a worker.
type slots struct {
	all, each int

	mu    sync.Mutex
	taken int
	of    map[string]int // by topic
}

func newSlots(all, each int) *slots { return &slots{all: all, each: each, of: map[string]int{}} }

// take reserves up to most slots for a topic and returns how many.
func (s *slots) take(topic string, most int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := max(min(most, s.all-s.taken, s.each-s.of[topic]), 0)
	s.taken += n
	s.of[topic] += n
	return n
}

// give returns slots of a topic.
func (s *slots) give(topic string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken -= n
	if s.of[topic] -= n; s.of[topic] == 0 {
		delete(s.of, topic)
	}
}

// backoffs says how long topics or servers are left alone after a failure, each for itself. The pause grows with each
// failure in a row. Safe for concurrent use.
type backoffs struct {
	now         func() time.Time
	first, most time.Duration

	mu sync.Mutex
	of map[string]backoff // by key
}

type backoff struct {
	pause time.Duration
	until time.Time
}

func newBackoffs(now func() time.Time, first, most time.Duration) *backoffs {
	return &backoffs{now: now, first: first, most: most, of: map[string]backoff{}}
}

// note takes in the outcome for a key, nil for success.
func (b *backoffs) note(key string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		delete(b.of, key)
		return
	}
	pause := min(max(2*b.of[key].pause, b.first), b.most)
	b.of[key] = backoff{pause, b.now().Add(pause)}
}

// left returns how much longer a key is left alone; 0 or less: it is not.
func (b *backoffs) left(key string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if one, ok := b.of[key]; ok {
		return one.until.Sub(b.now())
	}
	return 0
}
