package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// overlay is what operators have set, above every other source: sorted by
// key, of one key the oldest entry first, so that the last counts and what it
// hides for a time counts again afterwards. It is stored as JSON and replaced,
// never changed.
type overlay []entry

// entry is what one change has made of one key, or of one sale in it.
type entry struct {
	Key   string `json:"key"`
	Part  string `json:"part,omitempty"`  // the sale; empty: the key as a whole
	Value any    `json:"value,omitempty"` // nil: what the other sources say; of a part: it is taken away
	Until int64  `json:"until,omitempty"` // unix ms; 0: for good
}

func parseOverlay(text string) (overlay, error) {
	o := overlay{}
	if strings.HasPrefix(text, "{") {
		return parseFirstOverlay(text)
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return o, nil
}

// parseFirstOverlay reads the form in which databases may still hold it: by
// key one value, until when, and the one after that.
func parseFirstOverlay(text string) (overlay, error) {
	var keys map[string]struct {
		Value, Then any
		Until       int64
	}
	if err := json.Unmarshal([]byte(text), &keys); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	o := overlay{}
	for key, v := range keys {
		o = o.with(entry{Key: key, Value: v.Then}, entry{Key: key, Value: v.Value, Until: v.Until})
	}
	return o, nil
}

var errUnreadable = errors.New("the stored configuration is not readable: run the version of Sluice that wrote it")

func (o overlay) String() string {
	text, _ := json.Marshal(o) // it came from JSON
	return string(text)
}

func (e entry) ended(now time.Time) bool { return e.Until != 0 && e.Until <= now.UnixMilli() }

// removal reports that an entry only takes something away, for good.
func (e entry) removal() bool { return e.Part != "" && e.Value == nil && e.Until == 0 }

// hides reports whether an older entry can never count again.
func (e entry) hides(older entry) bool {
	covers := e.Key == older.Key && (e.Part == "" || e.Part == older.Part)
	return covers && (e.Until == 0 || older.Until != 0 && older.Until <= e.Until)
}

// at is the overlay without what has ended by then.
func (o overlay) at(now time.Time) overlay {
	return slices.DeleteFunc(slices.Clone(o), func(e entry) bool { return e.ended(now) })
}

// ends are the moments at which something of the overlay ends, soonest first.
func (o overlay) ends() []time.Time {
	at := map[int64]bool{}
	for _, e := range o {
		if e.Until != 0 {
			at[e.Until] = true
		}
	}
	var ends []time.Time
	for _, ms := range slices.Sorted(maps.Keys(at)) {
		ends = append(ends, time.UnixMilli(ms).UTC())
	}
	return ends
}

// until is when what counts of a key ends, by part; what counts for good is not in it.
func (o overlay) until(key string) map[string]time.Time {
	until := map[string]time.Time{}
	for _, e := range o {
		if e.Key != key {
			continue
		}
		if e.Part == "" {
			clear(until)
		}
		delete(until, e.Part)
		if e.Until != 0 {
			until[e.Part] = time.UnixMilli(e.Until).UTC()
		}
	}
	return until
}

// endFor is when what counts of a key for one part ends; zero: never.
func (o overlay) endFor(key, part string) (end time.Time) {
	for _, e := range o {
		if e.Key != key || e.Part != "" && e.Part != part {
			continue
		}
		if end = (time.Time{}); e.Until != 0 {
			end = time.UnixMilli(e.Until).UTC()
		}
	}
	return end
}

// under selects the entries whose keys start with prefix, or all others.
func (o overlay) under(prefix string, wanted bool) overlay {
	return slices.DeleteFunc(slices.Clone(o), func(e entry) bool { return strings.HasPrefix(e.Key, prefix) != wanted })
}

// of are the entries of one key.
func (o overlay) of(key string) overlay {
	return slices.DeleteFunc(slices.Clone(o), func(e entry) bool { return e.Key != key })
}

// without leaves the entries of some keys out.
func (o overlay) without(keys ...string) overlay {
	return slices.DeleteFunc(slices.Clone(o), func(e entry) bool { return slices.Contains(keys, e.Key) })
}

// with is the overlay after a change.
func (o overlay) with(change ...entry) overlay {
	next := slices.Clone(o)
	for _, e := range change {
		next = slices.DeleteFunc(next, e.hides)
		if e.Value != nil || e.Part != "" || len(next.of(e.Key)) > 0 {
			next = append(next, e)
		}
	}
	slices.SortStableFunc(next, func(a, b entry) int { return strings.Compare(a.Key, b.Key) })
	return next
}

// fitting is the overlay as it can be stored: when it is too large, the oldest
// that only take something away go first. It reports whether that was enough.
func (o overlay) fitting(most int) (overlay, bool) {
	for len(o.String()) > most {
		i := slices.IndexFunc(o, entry.removal)
		if i < 0 {
			return o, false
		}
		o = slices.Delete(slices.Clone(o), i, i+1)
	}
	return o, true
}
