package queue

import (
	"context"
	"slices"
	"sync"
	"time"
)

// readySet is the set of lines that may have work, first come first served. A
// line is in it at most once, so its size is bounded by the number of sales.
type readySet struct {
	mu     sync.Mutex
	small  []string        // lines that may go with others
	lone   []string        // lines that a worker takes by themselves
	member map[string]bool // of either
	alone  map[string]bool // lines that had much, or a suspect, when a worker claimed from them last
	lanes  int             // parties that may still be out
	party  bool            // whose turn it was
	news   chan struct{}
	doubts *doubts
}

func newReadySet(doubts *doubts) *readySet {
	return &readySet{member: map[string]bool{}, alone: map[string]bool{}, lanes: partyLanes, news: make(chan struct{}, 1), doubts: doubts}
}

// turn is what one worker takes: one line or, as a party, several.
type turn struct {
	sales []string
	lane  bool   // it is one of few at a time
	trial string // the place in doubt that is tried; empty: none
}

func (r *readySet) add(sale string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(sale)
}

func (r *readySet) put(sale string) {
	if !r.member[sale] {
		r.member[sale] = true
		switch {
		case r.doubts.about(sale) != "":
			r.doubts.aside = append(r.doubts.aside, sale)
		case r.alone[sale]:
			r.lone = append(r.lone, sale)
		default:
			r.small = append(r.small, sale)
		}
	}
	r.wake()
}

func (r *readySet) wake() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// addLone is add for a line that a worker is to take by itself.
func (r *readySet) addLone(sale string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alone[sale] = true
	if i := slices.Index(r.small, sale); i >= 0 {
		r.small = slices.Delete(r.small, i, i+1)
		r.lone = append(r.lone, sale)
	}
	r.put(sale)
}

// mayJoin says that a line had little.
func (r *readySet) mayJoin(sale string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.alone, sale)
}

// done ends a turn.
func (r *readySet) done(t turn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.lane {
		r.lanes++
		r.wake()
	}
	if t.trial != "" {
		r.tried(t.trial)
	}
}

// next removes and returns the line that has waited longest, or as many as
// most() of those that may go together; below 2, lines go one by one. Whoever
// takes a turn ends it by done.
func (r *readySet) next(ctx context.Context, most func() int) (turn, error) {
	for {
		if t, ok := r.pop(most()); ok && ctx.Err() == nil {
			return t, nil
		}
		if err := r.await(ctx); err != nil {
			return turn{}, err
		}
	}
}

// await waits for news, or for the time of the next trial.
func (r *readySet) await(ctx context.Context) error {
	due := make(<-chan time.Time)
	if wait, ok := r.untilTrial(); ok {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-r.news:
	case <-due:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// pop takes what is to be tried, few at a time, and else from both kinds in turn: neither waits for the other.
func (r *readySet) pop(most int) (turn, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.trial(); ok {
		return t, true
	}
	small := len(r.small) > 0 && (most < 2 || r.lanes > 0)
	if !small && len(r.lone) == 0 {
		return turn{}, false
	}
	r.party = small && (!r.party || len(r.lone) == 0)
	if !r.party {
		return turn{sales: r.take(&r.lone, 1)}, true
	}
	if most < 2 {
		return turn{sales: r.take(&r.small, 1)}, true
	}
	r.lanes--
	return turn{sales: r.take(&r.small, most), lane: true}, true
}

func (r *readySet) take(from *[]string, most int) []string {
	taken := slices.Clone((*from)[:min(most, len(*from))])
	*from = (*from)[len(taken):]
	for _, sale := range taken {
		delete(r.member, sale)
	}
	return taken
}

// brake makes a pause after what failed, longer each time it fails in a row.
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

// hold begins a pause, and reports how long it is and whether it is fresh:
// workers that fail together count once.
func (b *brake) hold() (pause time.Duration, fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now(); now.After(b.until) {
		b.pause = min(max(2*b.pause, firstPause), mostPause)
		b.until = now.Add(b.pause)
		return b.pause, true
	}
	return b.pause, false
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
