package queue

import "sync"

// turns lets few workers at a time into each line.
type turns struct {
	mu      sync.Mutex
	running map[string]int
	refused map[string]bool
}

func newTurns() *turns { return &turns{running: map[string]int{}, refused: map[string]bool{}} }

// enter reports whether a worker may claim from a line, as one of most; it then must leave. Whoever
// may not is made up for: the next to leave hears that there may be work.
func (t *turns) enter(sale string, most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[sale] >= most {
		t.refused[sale] = true
		return false
	}
	t.running[sale]++
	return true
}

// leave reports whether somebody was refused meanwhile.
func (t *turns) leave(sale string) (refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[sale]--; t.running[sale] == 0 {
		delete(t.running, sale)
	}
	refused = t.refused[sale]
	delete(t.refused, sale)
	return refused
}

// idle reports that no worker of this process is in a line.
func (t *turns) idle(sale string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[sale] == 0
}
