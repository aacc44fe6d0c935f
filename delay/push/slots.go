package push

import (
	"sync"
)

// slots bounds what one process delivers at a time, in all and for each subscription. A slot is taken before a message
// is claimed and given back when its outcome is stored. So no message waits for a worker in memory.
//
// A quarter of all is kept for subscriptions that have few. Of this rest each may have a quarter of what is still free,
// so one more receiver that hangs leaves slots to the others.
type slots struct {
	total, each, kept int

	mu     sync.Mutex
	taken  int
	byName map[string]int // by subscription
}

func newSlots(all, each int) *slots {
	return &slots{total: all, each: each, kept: all / 4, byName: map[string]int{}}
}

// reserve takes up to most slots for a subscription that may have up to limit. It returns how many it took.
func (s *slots) reserve(sub string, most, limit int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	has, free := s.byName[sub], s.total-s.taken
	n := min(most, free, min(limit, s.each)-has)
	few := (min(free, s.kept) + 3) / 4
	n = max(min(n, max(free-s.kept, few-has)), 0)
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
