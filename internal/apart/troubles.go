package apart

import "sync"

// Troubles remember which keys go wrong, so that it is told once and not in every round. The zero value is ready for
// use, by many goroutines.
type Troubles struct {
	mu  sync.Mutex
	ill map[string]bool
}

// Note takes in how a key's turn went, nil for well, and reports whether it has just begun to go wrong, or has just
// ended to.
func (t *Troubles) Note(key string, err error) (begun, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.ill[key]
	switch {
	case err == nil:
		delete(t.ill, key)
	case !was:
		if t.ill == nil {
			t.ill = map[string]bool{}
		}
		t.ill[key] = true
	}
	return !was && err != nil, was && err == nil
}

// Any reports whether a key goes wrong.
func (t *Troubles) Any() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.ill) > 0
}
