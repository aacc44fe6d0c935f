package delay

import (
	"sync"
	"time"
)

// backoffs are how long topics, or servers, are left alone after what failed, each for itself: longer each time it fails
// in a row. Safe for concurrent use.
type backoffs struct {
	now         func() time.Time
	first, most time.Duration

	mu sync.Mutex
	of map[string]backoff
}

type backoff struct {
	pause time.Duration
	until time.Time
}

func newBackoffs(now func() time.Time, first, most time.Duration) *backoffs {
	return &backoffs{now: now, first: first, most: most, of: map[string]backoff{}}
}

// note takes in how it went with a key, nil for well.
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

// left is how much longer a key is left alone; it is not at 0 and below.
func (b *backoffs) left(key string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if one, ok := b.of[key]; ok {
		return one.until.Sub(b.now())
	}
	return 0
}
