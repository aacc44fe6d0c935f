package worker

import "sync"

// limiter lets few workers at a time into each line. Safe for concurrent use.
type limiter struct {
	mu      sync.Mutex
	running map[string]int
	refused map[string]bool
}

func newLimiter() *limiter { return &limiter{running: map[string]int{}, refused: map[string]bool{}} }

// acquire reports whether a worker may claim from a line, as one of most; it then must release.
// Whoever may not is made up for: the next to release hears that there may be work. Whoever may not
// is made up for: the next to leave hears that there may be work.
func (l *limiter) acquire(sale string, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[sale] >= most {
		l.refused[sale] = true
		return false
	}
	l.running[sale]++
	return true
}

// release lets another worker in, and reports whether somebody was refused meanwhile.
func (l *limiter) release(sale string) (refused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[sale]--; l.running[sale] == 0 {
		delete(l.running, sale)
	}
	refused = l.refused[sale]
	delete(l.refused, sale)
	return refused
}

// idle reports that no worker of this process is in a line.
func (l *limiter) idle(sale string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running[sale] == 0
}
