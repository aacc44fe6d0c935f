package queue

import "sync"

// lineBatches is how many batches of one line run at the same time in a
// process. They all end at the same stock row, and databases were measured to
// do best with two to four writers; more workers make batches smaller and wait
// for each other. A suspect, which runs alone, does not count.
const lineBatches = 4

// turns lets few workers at a time into each line.
type turns struct {
	mu      sync.Mutex
	running map[string]int
	refused map[string]bool
}

func newTurns() *turns { return &turns{running: map[string]int{}, refused: map[string]bool{}} }

// enter reports whether a worker may claim from a line; it then must leave. Whoever
// may not is made up for: the next to leave hears that there may be work.
func (t *turns) enter(sale string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[sale] >= lineBatches {
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
