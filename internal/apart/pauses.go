package apart

import (
	"sync"
	"time"
)

// Pauses remembers how long each key is left alone after a failure. The pause doubles with each failure
// in a row. Safe for concurrent use.
type Pauses struct {
	now         func() time.Time
	first, most time.Duration

	mu sync.Mutex
	of map[string]pause
}

type pause struct {
	length time.Duration
	until  time.Time
}

// NewPauses returns Pauses that begin with first and grow to most.
func NewPauses(now func() time.Time, first, most time.Duration) *Pauses {
	return &Pauses{now: now, first: first, most: most, of: map[string]pause{}}
}

// Note notes the outcome of a call for a key: nil, a success, ends its pause.
func (p *Pauses) Note(key string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.of, key)
		return
	}
	length := min(max(2*p.of[key].length, p.first), p.most)
	p.of[key] = pause{length, p.now().Add(length)}
}

// Left returns how much longer a key is left alone, or 0 or less if it is not.
func (p *Pauses) Left(key string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one, ok := p.of[key]; ok {
		return one.until.Sub(p.now())
	}
	return 0
}
