package apart

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Rounds gives turns to keys, round after round. A key whose turn still runs gets none, so that one that hangs is in no
// other's way. Safe for concurrent use; whoever made it calls Wait at the end.
type Rounds struct {
	patience time.Duration // how long a round waits; 0: to the end
	places   chan struct{} // turns at a time
	overtime chan struct{} // those that have outlasted the patience: their places are free again
	spare    chan struct{} // those of keys that were slow lately: they take no place of the others
	late     chan struct{} // those of them that have outlasted the patience again: a place in spare is for the next

	mu    sync.Mutex
	busy  map[string]bool      // their turn runs
	slow  map[string]time.Time // when their last turn ended, if it outlasted the patience
	from  string               // the next round begins behind this one: the last ended before all had their turn
	first int                  // which of the slow ones is tried first
	turns sync.WaitGroup
}

// slowFor is how long a key counts as slow that was slow once.
const slowFor = time.Minute

// New returns rounds in which up to most turns run at a time, and as many that have outlasted the patience. Keys that
// were slow in the last minute have a quarter of that room beside it, and half of it once they are slow again. A round
// waits for patience at most, 0 for all of its turns.
func New(most int, patience time.Duration) *Rounds {
	room := func(turns int) chan struct{} { return make(chan struct{}, max(turns, 1)) }
	return &Rounds{patience: patience, places: room(most), overtime: room(most), spare: room(most / 4),
		late: room(most / 2), busy: map[string]bool{}, slow: map[string]time.Time{}}
}

// Round gives each of the keys a turn, in their order, and returns when those have ended that were quick the last time,
// or its patience has. Turns outlast it then, and must end soon after ctx. Whoever got no turn comes first in the next
// round. Failed hears of each turn that returned an error or panicked, possibly several at a time.
func (r *Rounds) Round(ctx context.Context, keys []string, turn func(ctx context.Context, key string) error,
	failed func(key string, err error),
) {
	begin := func(key string, place chan struct{}, ended func()) {
		began := time.Now()
		r.turns.Go(func() {
			defer ended()
			leave := r.sit(place)
			defer leave()
			err := Try(func() error { return turn(ctx, key) })
			r.end(key, r.patience > 0 && time.Since(began) > r.patience)
			if err != nil {
				failed(key, err)
			}
		})
	}
	quick, slow := r.sorted(keys)
	for _, key := range slow {
		if r.claim(key, r.spare) {
			begin(key, r.spare, func() {})
		}
	}
	r.give(ctx, quick, begin)
}

// sit gives a place back when the turn ends, or, if there is room, when it has outlasted the patience.
func (r *Rounds) sit(place chan struct{}) (leave func()) {
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

// give begins the turns of keys, as places become free, and waits for them.
func (r *Rounds) give(ctx context.Context, keys []string, begin func(key string, place chan struct{}, ended func())) {
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

// await returns when so many turns have ended, or when it is over.
func (*Rounds) await(begun int, ended <-chan struct{}, over <-chan time.Time) {
	for range begun {
		select {
		case <-ended:
		case <-over:
			return
		}
	}
}

// leaveOff remembers who had the last turn of a round that ended too early.
func (r *Rounds) leaveOff(had []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from = ""
	if len(had) > 0 {
		r.from = had[len(had)-1]
	}
}

// sorted tells keys that were quick last time from those that were slow, each kind in its turn.
func (r *Rounds) sorted(keys []string) (quick, slow []string) {
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

// claim takes a place for a key, if one is free and the key has no turn.
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

// Wait returns when no turn runs any more. No round may begin meanwhile.
func (r *Rounds) Wait() { r.turns.Wait() }
