package configs

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"sluice/queue"
)

// over lays an overlay over a configuration. It returns the keys of which something is left out, and why.
func (l *Loaded) over(o overlay) (counts *Loaded, left []string, err error) {
	sound, left, errs := l.schema.sound(o)
	return l.with(sound), left, errors.Join(errs...)
}

// sound is an overlay without the entries that this version of Sluice does not
// take; it returns their keys, and why. Each is judged by itself: whatever else
// is wrong, here or on the disk, undoes nothing that an operator has set.
func (s *schema) sound(o overlay) (sound overlay, left []string, errs []error) {
	for _, e := range o {
		k, ok := s.byPath[e.Key]
		if !ok || !Hot(e.Key) {
			continue
		}
		if err := k.check(e); err != nil {
			errs = append(errs, split(err)...)
			left = append(left, e.Key)
			continue
		}
		sound = append(sound, e)
	}
	return sound, slices.Compact(left), errs
}

// check refuses an entry whose value the key never takes.
func (k key) check(e entry) error {
	if e.Part != "" && !k.bySale() {
		return fmt.Errorf("%s is not set by sale, got %s", k.path, show(e.Part))
	}
	if e.Value == nil {
		return nil
	}
	value, err := k.decoded(reflect.Zero(k.typ).Interface(), e)
	if err != nil {
		return err
	}
	cfg := roomy()
	reflect.ValueOf(&cfg).Elem().FieldByIndex(k.index).Set(reflect.ValueOf(value))
	return cfg.checkHot()
}

// roomy is a configuration beside which every allowed value of a single hot key is allowed.
func roomy() Config {
	cfg := Default()
	cfg.Queue.Cap, cfg.Queue.MinCap, cfg.Queue.MaxWait = queue.MaxCap, 1, time.Second
	return cfg
}

// decoded is a key's value after an entry with one.
func (k key) decoded(value any, e entry) (any, error) {
	if e.Part != "" {
		return k.withPart(value, e)
	}
	return k.decode(e.Value)
}

// with lays a sound overlay over a configuration.
func (l *Loaded) with(o overlay) *Loaded {
	out := &Loaded{Config: l.Config, schema: l.schema, sources: maps.Clone(l.sources)}
	to := reflect.ValueOf(&out.Config).Elem()
	for _, e := range o {
		k := l.schema.byPath[e.Key]
		field := to.FieldByIndex(k.index)
		value, source := l.value(k), l.sources[k.path] // of an entry that says what the others say
		if e.Value != nil || e.Part != "" {
			value, _ = k.decoded(field.Interface(), e) // sound
			source = "admin"
		}
		field.Set(reflect.ValueOf(value))
		out.sources[e.Key] = source
	}
	return out
}
