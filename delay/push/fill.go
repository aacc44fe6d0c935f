package push

import (
	"context"
	"sync"

	"sluice/delay"
)

const (
	fullSoon    = 0.8 // of delay.max_messages: operators are told
	notFullSoon = 0.7 // below this they can be told again
)

// FullReport tells of a subscription that fills up faster than it is emptied, or is full.
type FullReport struct {
	Subscription delay.Subscription
	Unfinished   int64
	Missed       int64 // messages that it had no room for that nobody has been told of; 0: it is only filling up
}

// OnFull is called when a subscription is 80 % full, and when it missed messages. It must not block.
type OnFull func(ctx context.Context, f FullReport)

// fills remembers how full subscriptions were. The zero value is ready for use, by many goroutines.
type fills struct {
	mu    sync.Mutex
	of    map[string]fillState
	empty map[string]bool
}

type fillState struct {
	warned bool
	missed int64
}

// note takes in how full a subscription is and what it missed, ever. It reports whether it has just got too full, and
// whether it missed some since it was last noted.
func (f *fills) note(name string, fill float64, missed int64) (filling, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[string]fillState{}
	}
	was := f.of[name]
	is := fillState{warned: fill >= fullSoon || was.warned && fill >= notFullSoon, missed: missed}
	f.of[name] = is
	return is.warned && !was.warned, missed > was.missed
}

// setEmpty takes in whether a subscription has nothing unfinished.
func (f *fills) setEmpty(name string, empty bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.empty == nil {
		f.empty = map[string]bool{}
	}
	f.empty[name] = empty
}

func (f *fills) isEmpty(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.empty[name]
}

func (f *fills) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.empty, name)
	delete(f.of, name)
}
