package queue

import (
	"context"
	"sync"
	"time"
)

// readySet is the set of lines that may have work, first come first served. A
// line is in it at most once, so its size is bounded by the number of sales.
type readySet struct {
	mu     sync.Mutex
	sales  []string
	member map[string]bool
	news   chan struct{}
}

func newReadySet() *readySet {
	return &readySet{member: map[string]bool{}, news: make(chan struct{}, 1)}
}

func (r *readySet) add(sale string) {
	r.mu.Lock()
	if !r.member[sale] {
		r.member[sale] = true
		r.sales = append(r.sales, sale)
	}
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// next removes and returns the line that has waited longest.
func (r *readySet) next(ctx context.Context) (string, error) {
	for {
		if sale, ok := r.pop(); ok && ctx.Err() == nil {
			return sale, nil
		}
		select {
		case <-r.news:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (r *readySet) pop() (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sales) == 0 {
		return "", false
	}
	sale := r.sales[0]
	r.sales = r.sales[1:]
	delete(r.member, sale)
	return sale, true
}

// brake pauses draining while the database or Redis is away, longer each time
// it fails in a row.
type brake struct {
	mu    sync.Mutex
	now   func() time.Time
	until time.Time
	pause time.Duration
}

const (
	firstPause = 50 * time.Millisecond
	mostPause  = 2 * time.Second
)

func newBrake(now func() time.Time) *brake { return &brake{now: now} }

func (b *brake) hold() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Workers that fail together count once.
	if now := b.now(); now.After(b.until) {
		b.pause = min(max(2*b.pause, firstPause), mostPause)
		b.until = now.Add(b.pause)
	}
	return b.pause
}

func (b *brake) release() {
	b.mu.Lock()
	b.pause = 0
	b.mu.Unlock()
}

// left is how much longer the pause lasts; it is over at 0 and below.
func (b *brake) left() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until.Sub(b.now())
}

func (b *brake) wait(ctx context.Context) error { return sleep(ctx, b.left()) }
