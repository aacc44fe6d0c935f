package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

// overlay holds the hot keys that operators have set, above every other
// source. It is stored as JSON and replaced, never changed.
type overlay map[string]overlaid

// overlaid is one key: Value until Until, in unix ms, then Then.
type overlaid struct {
	Value any   `json:"value"`
	Until int64 `json:"until,omitempty"` // 0: for good
	Then  any   `json:"then,omitempty"`  // nil: whatever the other sources say
}

func parseOverlay(text string) (overlay, error) {
	o := overlay{}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, fmt.Errorf("the stored configuration is not readable: %w", err)
	}
	return o, nil
}

func (o overlay) String() string {
	text, _ := json.Marshal(o) // it came from JSON
	return string(text)
}

// at is the overlay without what has run out, and whether anything had.
func (o overlay) at(now time.Time) (overlay, bool) {
	left, ended := overlay{}, false
	for path, v := range o {
		switch {
		case v.Until == 0 || now.UnixMilli() < v.Until:
			left[path] = v
		case v.Then != nil:
			left[path], ended = overlaid{Value: v.Then}, true
		default:
			ended = true
		}
	}
	return left, ended
}

// with is the overlay after a change. What counts for a time gives way to what
// counted for good before.
func (o overlay) with(set map[string]any, unset []string, until time.Time) overlay {
	next := maps.Clone(o)
	for path, value := range set {
		v := overlaid{Value: value}
		if !until.IsZero() {
			v.Until, v.Then = until.UnixMilli(), o[path].Value
			if o[path].Until != 0 {
				v.Then = o[path].Then
			}
		}
		next[path] = v
	}
	for _, path := range unset {
		delete(next, path)
	}
	return next
}

// over lays the overlay over a configuration and checks the whole. Keys that
// this version of Sluice does not know are left out.
func (l *Loaded) over(o overlay) (*Loaded, error) {
	out := &Loaded{Config: l.Config, schema: l.schema, sources: maps.Clone(l.sources)}
	to := reflect.ValueOf(&out.Config).Elem()
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(o)) {
		k, ok := l.schema.byPath[path]
		if !ok || !Hot(path) {
			continue
		}
		value, err := k.decode(o[path].Value)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		to.FieldByIndex(k.index).Set(reflect.ValueOf(value))
		out.sources[path] = "admin"
	}
	errs = append(errs, split(out.Config.Validate())...)
	return out, errors.Join(errs...)
}
