package worker

import (
	"context"
	"slices"
	"sync"
	"time"
)

// runnableSet is the set of lines that may have work, first come first served. A
// line is in it at most once, so its size is bounded by the number of sales.
type runnableSet struct {
	mu        sync.Mutex
	small     []string        // lines that may go with others
	single    []string        // lines that a worker takes by themselves
	member    map[string]bool // of either
	large     map[string]bool // lines that had much, or an isolated ticket, when a worker claimed from them last
	slots     int             // multi-sale batches that may still be out
	lastMulti bool            // whose turn it was
	woken     chan struct{}
	doubts    *doubts
}

func newRunnableSet(doubts *doubts) *runnableSet {
	return &runnableSet{
		member: map[string]bool{}, large: map[string]bool{}, slots: multiSlots,
		woken: make(chan struct{}, 1), doubts: doubts,
	}
}

// job is what one worker takes: one line or, as a multi-sale batch, several.
type job struct {
	sales []string
	multi bool   // it is one of few at a time
	trial string // the place in doubt that is tried; empty: none
}

func (r *runnableSet) add(sale string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.insert(sale)
}

func (r *runnableSet) insert(sale string) {
	if !r.member[sale] {
		r.member[sale] = true
		switch {
		case r.doubts.about(sale) != "":
			r.doubts.aside = append(r.doubts.aside, sale)
		case r.large[sale]:
			r.single = append(r.single, sale)
		default:
			r.small = append(r.small, sale)
		}
	}
	r.wake()
}

func (r *runnableSet) wake() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// addLarge adds a line that a worker is to take by itself.
func (r *runnableSet) addLarge(sale string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.large[sale] = true
	if i := slices.Index(r.small, sale); i >= 0 {
		r.small = slices.Delete(r.small, i, i+1)
		r.single = append(r.single, sale)
	}
	r.insert(sale)
}

// markSmall says that a line had little.
func (r *runnableSet) markSmall(sale string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.large, sale)
}

// done ends a turn.
func (r *runnableSet) done(t job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.multi {
		r.slots++
		r.wake()
	}
	if t.trial != "" {
		r.tried(t.trial)
	}
}

// next removes and returns the line that has waited longest. It may also be as many as most() of
// those that may go together. Below 2, lines go one by one. Whoever takes a turn ends it by done.
func (r *runnableSet) next(ctx context.Context, most func() int) (job, error) {
	for {
		if t, ok := r.pop(most()); ok && ctx.Err() == nil {
			return t, nil
		}
		if err := r.await(ctx); err != nil {
			return job{}, err
		}
	}
}

// await waits for news, or for the time of the next trial.
func (r *runnableSet) await(ctx context.Context) error {
	due := make(<-chan time.Time)
	if wait, ok := r.untilTrial(); ok {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-r.woken:
	case <-due:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// pop takes what is to be tried, few at a time, and else from both kinds in turn. So neither waits for the other.
func (r *runnableSet) pop(most int) (job, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.trial(); ok {
		return t, true
	}
	small := len(r.small) > 0 && (most < 2 || r.slots > 0)
	if !small && len(r.single) == 0 {
		return job{}, false
	}
	r.lastMulti = small && (!r.lastMulti || len(r.single) == 0)
	if !r.lastMulti {
		return job{sales: r.take(&r.single, 1)}, true
	}
	if most < 2 {
		return job{sales: r.take(&r.small, 1)}, true
	}
	r.slots--
	return job{sales: r.take(&r.small, most), multi: true}, true
}

func (r *runnableSet) take(from *[]string, most int) []string {
	taken := slices.Clone((*from)[:min(most, len(*from))])
	*from = (*from)[len(taken):]
	for _, sale := range taken {
		delete(r.member, sale)
	}
	return taken
}

// backoff makes a pause after what failed, longer each time it fails in a row.
type backoff struct {
	mu    sync.Mutex
	now   func() time.Time
	until time.Time
	pause time.Duration
}

const (
	firstPause = 50 * time.Millisecond
	mostPause  = 2 * time.Second
)

func newBackoff(now func() time.Time) *backoff { return &backoff{now: now} }

// begin begins a pause. It reports how long it is and whether it is fresh: workers that fail
// together count once. It reports how long it is and whether it is fresh: workers that fail
// together count once.
func (b *backoff) begin() (pause time.Duration, fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now(); now.After(b.until) {
		b.pause = min(max(2*b.pause, firstPause), mostPause)
		b.until = now.Add(b.pause)
		return b.pause, true
	}
	return b.pause, false
}

func (b *backoff) reset() {
	b.mu.Lock()
	b.pause = 0
	b.mu.Unlock()
}

// remaining returns how much longer the pause lasts; it is over at 0 and below.
func (b *backoff) remaining() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until.Sub(b.now())
}

func (b *backoff) wait(ctx context.Context) error { return sleep(ctx, b.remaining()) }
