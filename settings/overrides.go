package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Overrides are what operators have set, above every other source. They are sorted by key, for one key the oldest
// first. The last one is in force; when it expires, the one before is in force again. They are stored as JSON and never
// modified in place.
type Overrides []Override

// Override is one change of one key, or of one sale in it.
type Override struct {
	Key   string `json:"key"`
	Sale  string `json:"part,omitempty"`  // empty: the key as a whole
	Value any    `json:"value,omitempty"` // nil: the key is unset, or the sale has no value
	Until int64  `json:"until,omitempty"` // unix ms; 0: no end
}

// ErrUnreadable says that another version of Sluice stored overrides that this one cannot read.
var ErrUnreadable = errors.New("the stored configuration is not readable: run the version of Sluice that wrote it")

// ParseOverrides decodes stored overrides, or returns ErrUnreadable.
func ParseOverrides(text string) (Overrides, error) {
	if strings.HasPrefix(text, "{") {
		return parseFirstForm(text)
	}
	o := Overrides{}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return o, nil
}

// parseFirstForm decodes the form of old databases: for each key a value, its end and the value after it.
func parseFirstForm(text string) (Overrides, error) {
	var keys map[string]struct {
		Value, Then any
		Until       int64
	}
	if err := json.Unmarshal([]byte(text), &keys); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	o := Overrides{}
	for key, v := range keys {
		o = o.With(Override{Key: key, Value: v.Then}, Override{Key: key, Value: v.Value, Until: v.Until})
	}
	return o, nil
}

// String returns the overrides in their stored form.
func (o Overrides) String() string {
	text, _ := json.Marshal(o) // the values came from JSON
	return string(text)
}

func (e Override) expired(now time.Time) bool { return e.Until != 0 && e.Until <= now.UnixMilli() }

// onlyRemoves reports whether an override only removes a sale's value, without an end.
func (e Override) onlyRemoves() bool { return e.Sale != "" && e.Value == nil && e.Until == 0 }

// hides reports whether an older override can never be in force again.
func (e Override) hides(older Override) bool {
	covers := e.Key == older.Key && (e.Sale == "" || e.Sale == older.Sale)
	return covers && (e.Until == 0 || older.Until != 0 && older.Until <= e.Until)
}

// At returns the overrides that have not expired at now.
func (o Overrides) At(now time.Time) Overrides {
	return slices.DeleteFunc(slices.Clone(o), func(e Override) bool { return e.expired(now) })
}

// Select returns the overrides whose keys are wanted.
func (o Overrides) Select(wanted func(key string) bool) Overrides {
	return slices.DeleteFunc(slices.Clone(o), func(e Override) bool { return !wanted(e.Key) })
}

// Has reports whether a key is overridden.
func (o Overrides) Has(key string) bool {
	return slices.ContainsFunc(o, func(e Override) bool { return e.Key == key })
}

// Ends lists the moments at which an override expires, soonest first.
func (o Overrides) Ends() []time.Time {
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

// Until returns by sale when the present value of a key ends; "" stands for the key as a whole. Values without an end
// are absent.
func (o Overrides) Until(key string) map[string]time.Time {
	until := map[string]time.Time{}
	for _, e := range o {
		if e.Key != key {
			continue
		}
		if e.Sale == "" {
			clear(until)
		}
		delete(until, e.Sale)
		if e.Until != 0 {
			until[e.Sale] = time.UnixMilli(e.Until).UTC()
		}
	}
	return until
}

// UntilFor returns when the present value of a key for one sale ends, or zero for never. It may have been set for the
// sale or for all.
func (o Overrides) UntilFor(key, sale string) (end time.Time) {
	for _, e := range o {
		if e.Key != key || e.Sale != "" && e.Sale != sale {
			continue
		}
		if end = (time.Time{}); e.Until != 0 {
			end = time.UnixMilli(e.Until).UTC()
		}
	}
	return end
}

// With returns the overrides after a change.
func (o Overrides) With(change ...Override) Overrides {
	next := slices.Clone(o)
	for _, e := range change {
		next = slices.DeleteFunc(next, e.hides)
		if e.Value != nil || e.Sale != "" || next.Has(e.Key) {
			next = append(next, e)
		}
	}
	slices.SortStableFunc(next, func(a, b Override) int { return strings.Compare(a.Key, b.Key) })
	return next
}

// Shorten drops overrides that only remove something, oldest first, until the rest fits in most bytes. It reports
// whether that was enough.
func (o Overrides) Shorten(most int) (Overrides, bool) {
	for len(o.String()) > most {
		i := slices.IndexFunc(o, Override.onlyRemoves)
		if i < 0 {
			return o, false
		}
		o = slices.Delete(slices.Clone(o), i, i+1)
	}
	return o, true
}
