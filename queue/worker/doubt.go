package worker

import (
	"slices"
	"sync"
	"time"
)

// A line whose turn failed is in doubt, alone or with all lines of its server. It is in no multi-sale batch. Few
// workers try it again, after a pause that grows. So what fails or hangs takes no time and no worker from the lines
// that are well. And a store that is away is not asked by each line in turn.

// ofLine and ofServer name the places that a fault may be of.
func ofLine(sale string) string     { return "line " + sale }
func ofServer(server string) string { return "server " + server }

// trialShare is which part of the workers may try lines in doubt at a time.
const trialShare = 4

// doubts are part of a runnableSet and guarded by it.
type doubts struct {
	server  func(sale string) string // that holds its line
	of      map[string]bool          // places in doubt: true while a worker tries
	tried   map[string]int           // which trial was the last of a place
	trials  int
	aside   []string // lines in doubt that may have work
	free    int      // workers that may still try
	backoff *backoff // between one trial that failed and the next
}

func newDoubts(now func() time.Time, workers int, server func(sale string) string) *doubts {
	return &doubts{server: server, of: map[string]bool{}, tried: map[string]int{}, free: max(workers/trialShare, 1),
		backoff: newBackoff(now)}
}

// about returns the place in doubt that a line belongs to, "" when there is none.
func (d *doubts) about(sale string) string {
	if len(d.of) == 0 {
		return ""
	}
	for _, place := range [...]string{ofLine(sale), ofServer(d.server(sale))} {
		if _, doubtful := d.of[place]; doubtful {
			return place
		}
	}
	return ""
}

// trial takes a line in doubt, when it is time for one, of a place that nobody tries. The place that was tried longest
// ago comes first: many lines of one place are in no other's way.
func (r *runnableSet) trial() (job, bool) {
	d := r.doubts
	if d.free == 0 || len(d.aside) == 0 || d.backoff.remaining() > 0 {
		return job{}, false
	}
	r.letGo()
	at, about := -1, ""
	for i, sale := range d.aside {
		place := d.about(sale)
		if !d.of[place] && (at < 0 || d.tried[place] < d.tried[about]) {
			at, about = i, place
		}
	}
	if at < 0 {
		return job{}, false
	}
	sale := d.aside[at]
	d.aside = slices.Delete(d.aside, at, at+1)
	delete(r.member, sale)
	d.of[about] = true
	d.free--
	d.trials++
	d.tried[about] = d.trials
	return job{sales: []string{sale}, trial: about}, true
}

// letGo gives lines their turns whose place is not in doubt any more: another server has taken them over.
func (r *runnableSet) letGo() {
	d := r.doubts
	var well []string
	d.aside = slices.DeleteFunc(d.aside, func(sale string) bool {
		if d.about(sale) != "" {
			return false
		}
		well = append(well, sale)
		return true
	})
	for _, sale := range well {
		delete(r.member, sale)
		r.insert(sale)
	}
}

// distrust puts a place in doubt. It reports how long it is until the next trial, and whether that has just begun.
func (r *runnableSet) distrust(place string) (pause time.Duration, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.doubts
	if _, known := d.of[place]; !known {
		d.of[place] = false
		for _, list := range []*[]string{&r.small, &r.single} {
			*list = slices.DeleteFunc(*list, func(sale string) bool {
				moved := d.about(sale) != ""
				if moved {
					d.aside = append(d.aside, sale)
				}
				return moved
			})
		}
	}
	return d.backoff.begin()
}

// undoubted returns the lines of a turn, without those that came into doubt while it waited for a worker.
func (r *runnableSet) undoubted(t job) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.trial != "" || len(r.doubts.of) == 0 {
		return t.sales
	}
	return slices.DeleteFunc(t.sales, func(sale string) bool {
		doubtful := r.doubts.about(sale) != ""
		if doubtful {
			r.insert(sale)
		}
		return doubtful
	})
}

// trust says that a place is well: its lines have their turns as all others.
func (r *runnableSet) trust(place string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, doubtful := r.doubts.of[place]; doubtful {
		delete(r.doubts.of, place)
		delete(r.doubts.tried, place)
		r.regain()
	}
}

// trustAll ends every doubt: what all had in common is over.
func (r *runnableSet) trustAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.doubts.of)
	clear(r.doubts.tried)
	r.regain()
}

// regain lets those lines have their turns that are no longer in doubt. The caller holds the lock.
func (r *runnableSet) regain() {
	d := r.doubts
	d.backoff.reset()
	waiting := d.aside
	d.aside = nil
	for _, sale := range waiting {
		delete(r.member, sale)
		r.insert(sale)
	}
	r.wake()
}

// tried ends a trial. The caller holds the lock.
func (r *runnableSet) tried(place string) {
	r.doubts.free++
	if _, still := r.doubts.of[place]; still {
		r.doubts.of[place] = false
	}
	r.wake()
}

// untilTrial returns how long nobody may try a line in doubt; false when nobody waits for that.
func (r *runnableSet) untilTrial() (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.doubts.backoff.remaining()
	return left, left > 0 && len(r.doubts.aside) > 0 && r.doubts.free > 0
}

// inDoubt counts the places in doubt.
func (r *runnableSet) inDoubt() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.doubts.of)
}

// witness remembers which places of one kind have gone well lately. So a fault of one can be told from a fault of all.
// Safe for concurrent use.
type witness struct {
	mu   sync.Mutex
	now  func() time.Time
	well map[string]time.Time
	ill  map[string]time.Time // when each that has not gone well since has failed last
}

// witnessFor is how long it tells something of all places that one has gone well.
const witnessFor = 10 * time.Second

func newWitness(now func() time.Time) *witness {
	return &witness{now: now, well: map[string]time.Time{}, ill: map[string]time.Time{}}
}

// good notes that a place has gone well.
func (w *witness) good(place string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.well[place] = w.now()
	delete(w.ill, place)
}

// alone notes that a place has failed, and reports whether others go well. Another must have gone well a short while
// ago, and since this one failed the time before. That is whether another has gone well a short while ago, and since
// this one failed the time before.
func (w *witness) alone(place string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	since := now.Add(-witnessFor)
	if before := w.ill[place]; before.After(since) {
		since = before
	}
	w.ill[place] = now
	found := false
	for other, at := range w.well {
		switch {
		case now.Sub(at) > witnessFor:
			delete(w.well, other)
		case other != place && at.After(since):
			found = true
		}
	}
	return found
}
