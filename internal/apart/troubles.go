package apart

import "sync"

// Troubles remembers which keys fail, so that each failure is logged once and not in every round. The zero value is
// ready for use. Safe for concurrent use.
type Troubles struct {
	mu  sync.Mutex
	ill map[string]bool
}

// Note records the outcome of a key's turn, nil for success. It reports whether the key has just begun to fail, or just
// ceased to.
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

// Any reports whether any key fails.
func (t *Troubles) Any() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.ill) > 0
}
