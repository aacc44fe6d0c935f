package push

import (
	"sync"
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
