package apart

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Rounds gives turns to keys, round after round. A key whose turn still runs gets no second one, so that a hanging key
// delays no other. Safe for concurrent use. Call Wait at the end.
type Rounds struct {
	patience time.Duration // how long a round waits for its turns; 0: until they end
	places   chan struct{} // one element for each running turn
	overtime chan struct{} // turns that have outlasted the patience, whose places are free again
	spare    chan struct{} // turns of keys that were slow lately, which take no other places
	late     chan struct{} // turns in spare that have outlasted the patience again, whose spare places are free again

	mu    sync.Mutex
	busy  map[string]bool      // keys whose turn runs
	slow  map[string]time.Time // when a key's last turn ended, if it outlasted the patience
	from  string               // the next round begins after this key, because the last one ended early
	first int                  // index of the slow key that is tried first
	turns sync.WaitGroup
}

// slowFor is how long a key counts as slow after a slow turn.
const slowFor = time.Minute

// New returns Rounds in which up to most turns run at a time. As many more may have outlasted the patience. Keys that
// were slow in the last minute have further places, a quarter of most. Turns that are slow again have half of most. A
// round waits at most patience, or with 0 for all of its turns.
func New(most int, patience time.Duration) *Rounds {
	room := func(turns int) chan struct{} { return make(chan struct{}, max(turns, 1)) }
	return &Rounds{patience: patience, places: room(most), overtime: room(most), spare: room(most / 4),
		late: room(most / 2), busy: map[string]bool{}, slow: map[string]time.Time{}}
}

// Round gives each key a turn, in order. It returns when the turns of quick keys have ended or its patience is over.
// Turns may outlast it and must end soon after ctx. Keys without a turn come first in the next round. failed is called
// for each turn that returned an error or panicked, perhaps concurrently.
func (r *Rounds) Round(ctx context.Context, keys []string, turn func(ctx context.Context, key string) error,
	failed func(key string, err error),
) {
	begin := func(key string, place chan struct{}, ended func()) {
		began := time.Now()
		r.turns.Go(func() {
			defer ended()
			leave := r.occupy(place)
			defer leave()
			err := Try(func() error { return turn(ctx, key) })
			r.end(key, r.patience > 0 && time.Since(began) > r.patience)
			if err != nil {
				failed(key, err)
			}
		})
	}
	quick, slow := r.splitBySpeed(keys)
	for _, key := range slow {
		if r.claim(key, r.spare) {
			begin(key, r.spare, func() {})
		}
	}
	r.beginTurns(ctx, quick, begin)
}

// occupy frees a place when the turn ends, or, if there is room, when it has outlasted the patience.
func (r *Rounds) occupy(place chan struct{}) (leave func()) {
	if r.patience == 0 {
		return func() { <-place }
	}
	aside := r.overtime
	if place == r.spare {
		aside = r.late
	}
	var mu sync.Mutex
	over, from := false, place
	timer := time.AfterFunc(r.patience, func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		select {
		case aside <- struct{}{}:
			<-from
			from = aside
		default:
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		over = true
		<-from
	}
}

// beginTurns begins the turns of keys as places become free, and waits for them.
func (r *Rounds) beginTurns(ctx context.Context, keys []string,
	begin func(key string, place chan struct{}, ended func())) {
	over := make(<-chan time.Time)
	if r.patience > 0 {
		timer := time.NewTimer(r.patience)
		defer timer.Stop()
		over = timer.C
	}
	ended, begun := make(chan struct{}, len(keys)), 0
	for i, key := range keys {
		select {
		case r.places <- struct{}{}:
		case <-over:
			r.leaveOff(keys[:i])
			return
		case <-ctx.Done():
			r.await(begun, ended, over)
			return
		}
		if !r.begins(key) {
			<-r.places
			continue
		}
		begun++
		begin(key, r.places, func() { ended <- struct{}{} })
	}
	r.leaveOff(nil)
	r.await(begun, ended, over)
}

// await returns when begun turns have ended, or when over fires.
func (*Rounds) await(begun int, ended <-chan struct{}, over <-chan time.Time) {
	for range begun {
		select {
		case <-ended:
		case <-over:
			return
		}
	}
}

// leaveOff remembers the key with the last turn of a round that ended early.
func (r *Rounds) leaveOff(had []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from = ""
	if len(had) > 0 {
		r.from = had[len(had)-1]
	}
}

// splitBySpeed separates keys that were quick last time from slow ones, each in its order of turns.
func (r *Rounds) splitBySpeed(keys []string) (quick, slow []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := slices.Index(keys, r.from); at >= 0 {
		keys = append(slices.Clone(keys[at+1:]), keys[:at+1]...)
	}
	for _, key := range keys {
		switch {
		case r.busy[key]:
		case time.Since(r.slow[key]) < slowFor:
			slow = append(slow, key)
		default:
			quick = append(quick, key)
		}
	}
	if len(slow) > 0 {
		r.first++
		at := r.first % len(slow)
		slow = append(slices.Clone(slow[at:]), slow[:at]...)
	}
	return quick, slow
}

// claim takes a place for a key. It reports false if none is free or the key's turn still runs.
func (r *Rounds) claim(key string, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
	default:
		return false
	}
	if !r.begins(key) {
		<-places
		return false
	}
	return true
}

func (r *Rounds) begins(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[key] {
		return false
	}
	r.busy[key] = true
	return true
}

func (r *Rounds) end(key string, slow bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, key)
	delete(r.slow, key)
	if slow {
		r.slow[key] = time.Now()
	}
}

// Wait returns when no turn runs. No round may begin meanwhile.
func (r *Rounds) Wait() { r.turns.Wait() }
