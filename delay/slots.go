package delay

import "sync"

// slots bound what one process delivers at a time, in all and for each topic. A slot is taken before a message is claimed and
// given back when its outcome is stored, so no message waits in memory for a worker.
type slots struct {
	all, each int

	mu    sync.Mutex
	taken int
	of    map[string]int
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

func (s *slots) give(topic string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken -= n
	if s.of[topic] -= n; s.of[topic] == 0 {
		delete(s.of, topic)
	}
}
