package inventory

import (
	"maps"
	"sync/atomic"
	"time"
)

// leastStop is the guess for a stop without a known end: it lasts at least this much longer.
// Once it has lasted for longer, the guess is that it lasts as long again.
const leastStop = time.Minute

// stops are the lines that operators do not let workers drain.
type stops struct {
	now func() time.Time
	of  atomic.Pointer[map[string]stop] // by sale; "" is all of them
}

type stop struct{ since, until time.Time } // until is zero: nobody has said

// Stop says which lines are not drained from now on, and until when. It is by sale, "" for all; a
// zero time is an end that nobody knows. Calls must not overlap each other.
func (b *SaleCache) Stop(until map[string]time.Time) {
	was := map[string]stop{}
	if of := b.stops.of.Load(); of != nil {
		was = *of
	}
	is := make(map[string]stop, len(until))
	for sale, end := range until {
		is[sale] = stop{b.Now(), end}
		if old, ok := was[sale]; ok {
			is[sale] = stop{old.since, end}
		}
	}
	if !maps.Equal(was, is) {
		b.stops.of.Store(&is)
	}
}

// remaining returns how much longer a sale's line is stopped, in whole seconds; 0: it is not.
func (s *stops) remaining(sale string) time.Duration {
	of := s.of.Load()
	if of == nil || len(*of) == 0 {
		return 0
	}
	now, longest := s.now(), time.Duration(0)
	for _, name := range [...]string{"", sale} {
		if one, ok := (*of)[name]; ok {
			longest = max(longest, one.remaining(now))
		}
	}
	return longest.Truncate(time.Second)
}

func (s stop) remaining(now time.Time) time.Duration {
	if !s.until.IsZero() {
		return max(s.until.Sub(now), time.Second) // the end is noticed a moment later
	}
	return max(now.Sub(s.since), leastStop)
}
