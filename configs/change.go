package configs

import (
	"errors"
	"maps"
	"slices"

	"sluice/internal/invalid"
	"sluice/settings"
)

// entries reads a change in the form in which it is stored.
func (l *Live) entries(c settings.Change) (change []entry, err error) {
	var bad invalid.Error
	var until int64
	if c.For > 0 {
		until = l.now().Add(c.For).UnixMilli()
	}
	for _, path := range slices.Sorted(maps.Keys(c.Set)) {
		k, part, err := l.hot(path)
		var value any
		if err == nil {
			value, err = k.stored(part, c.Set[path])
		}
		one := entry{Key: k.path, Part: part, Value: value, Until: until}
		if err == nil {
			err = k.check(one)
		}
		if err != nil {
			bad = append(bad, invalid.Field{Field: path, Detail: err.Error()})
		}
		change = append(change, one)
	}
	for _, path := range c.Unset {
		k, part, err := l.hot(path)
		if err == nil && part != "" {
			err = errors.New("is a part of a key: set it, or unset the key")
		}
		if _, both := c.Set[path]; both {
			err = errors.New("is both set and unset")
		}
		if err != nil {
			bad = append(bad, invalid.Field{Field: path, Detail: err.Error()})
		}
		change = append(change, entry{Key: k.path, Until: until})
	}
	if len(change) == 0 {
		bad = append(bad, invalid.Field{Field: "set", Detail: "names no key to change"})
	}
	if len(bad) > 0 {
		return nil, bad
	}
	return change, nil
}

// hot finds a key that may change, and the part of it that a path names.
func (l *Live) hot(path string) (key, string, error) {
	k, part, ok := l.boot.schema.find(path)
	switch {
	case !ok:
		return k, "", errors.New("is not a key")
	case !Hot(k.path):
		return k, "", errors.New("needs a restart: change the file and restart")
	}
	return k, part, nil
}
