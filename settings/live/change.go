package live

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"sluice/configs"
	"sluice/internal/invalid"
	"sluice/settings"
)

// maxStored bounds the overrides and the stored hot keys of a version, in bytes each. An entry of the admin log
// contains both, in a TEXT column of MySQL.
const maxStored = 32_000

// reservedForStops is the part of maxStored that only the two switches may use, so that they can always be set.
const reservedForStops = 1_000

// maxTries bounds how often a change is repeated because other instances were faster.
const maxTries = 20

// Change sets and unsets hot keys for all instances, all or none. It returns settings.ErrVersion, or an invalid.Error
// that names each bad key.
func (l *Settings) Change(ctx context.Context, c settings.Change) error {
	return l.retry(ctx, c.By.IfVersion, maxTries, func() error {
		change, err := l.overridesOf(c)
		if err != nil {
			return l.refuse(c.By, err)
		}
		return l.store(ctx, "admin", l.overrides.With(change...), c.By)
	})
}

// overridesOf converts a change to overrides.
func (l *Settings) overridesOf(c settings.Change) (change []settings.Override, err error) {
	var bad invalid.Error
	var until int64
	if c.For > 0 {
		until = l.now().Add(c.For).UnixMilli()
	}
	for _, path := range slices.Sorted(maps.Keys(c.Set)) {
		o, err := l.setting(path, c.Set[path], until)
		if err != nil {
			bad = append(bad, invalid.Field{Field: path, Detail: err.Error()})
		}
		change = append(change, o)
	}
	for _, path := range c.Unset {
		k, sale, err := l.findHot(path)
		if err == nil && sale != "" {
			err = errors.New("is a part of a key: set it, or unset the key")
		}
		if _, both := c.Set[path]; both {
			err = errors.New("is both set and unset")
		}
		if err != nil {
			bad = append(bad, invalid.Field{Field: path, Detail: err.Error()})
		}
		change = append(change, settings.Override{Key: k.Path(), Until: until})
	}
	if len(change) == 0 {
		bad = append(bad, invalid.Field{Field: "set", Detail: "names no key to change"})
	}
	if len(bad) > 0 {
		return nil, bad
	}
	return change, nil
}

// setting returns the checked override that sets one path.
func (l *Settings) setting(path string, raw any, until int64) (settings.Override, error) {
	k, sale, err := l.findHot(path)
	if err != nil {
		return settings.Override{}, err
	}
	value, err := toStored(k, sale, raw)
	o := settings.Override{Key: k.Path(), Sale: sale, Value: value, Until: until}
	if err != nil {
		return o, err
	}
	return o, check(k, o)
}

// findHot returns the hot key that a path names, and the sale if it names one.
func (l *Settings) findHot(path string) (configs.Key, string, error) {
	k, sale, ok := find(l.started, path)
	switch {
	case !ok:
		return k, "", errors.New("is not a key")
	case !configs.Hot(k.Path()):
		return k, "", errors.New("needs a restart: change the file and restart")
	}
	return k, sale, nil
}

// retry makes a change on the newest version. If another instance was faster, it repeats the change on the next
// version, unless want is a certain version.
func (l *Settings) retry(ctx context.Context, want int64, tries int, change func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; ; tries-- {
		if err := l.refresh(ctx, want); err != nil {
			return err
		}
		err := change()
		if want != settings.AnyVersion || tries <= 1 || !errors.Is(err, settings.ErrVersion) {
			return err
		}
	}
}

// refresh reads the newest version and returns settings.ErrVersion unless it is the wanted one.
func (l *Settings) refresh(ctx context.Context, want int64) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	l.expire()
	if want != settings.AnyVersion && want != l.version.Version {
		return settings.ErrVersion
	}
	return nil
}

// store checks overrides, stores them as the next version and applies it.
func (l *Settings) store(ctx context.Context, source string, next settings.Overrides, by settings.Author) error {
	most := l.maxBytes(next)
	next, fits := next.Shorten(most)
	if !fits {
		why := fmt.Sprintf("makes all that is set longer than %d bytes: unset something first", most)
		return l.refuse(by, invalid.Error{{Field: "set", Detail: why}})
	}
	next, err := settings.ParseOverrides(next.String()) // in the form that every instance will read
	if err != nil {
		return err
	}
	if err := l.check(next); err != nil {
		return l.refuse(by, l.fieldErrors(err))
	}
	was := l.effective
	if err := l.add(ctx, source, next, by); err != nil {
		return err
	}
	l.log.Info("configuration changed", "version", l.version.Version, "source", source, "actor", by.Actor,
		"keys", was.Differing(l.effective, configs.Hot))
	l.metrics.reloads.WithLabelValues("applied").Inc()
	return nil
}

// maxBytes returns how long overrides may be. Overrides shorter than the present ones are always allowed.
func (l *Settings) maxBytes(next settings.Overrides) int {
	others := func(o settings.Overrides) string {
		return o.Select(func(key string) bool { return key != "gateway.admission" && key != "queue.drain" }).String()
	}
	if others(next) == others(l.overrides) {
		return maxStored
	}
	return max(maxStored-reservedForStops, len(l.overrides.String()))
}

// add stores overrides as the next version and applies it.
func (l *Settings) add(ctx context.Context, source string, next settings.Overrides, by settings.Author) error {
	effective, _, _ := acceptAndApply(l.base, next)
	row := settings.VersionRow{Version: l.version.Version + 1, At: l.now().UnixMilli(), Actor: by.Actor, Source: source,
		Reason: by.Reason, Digest: l.digest, Overrides: next.String(), Effective: storedValues(effective)}
	if err := l.versions.Add(ctx, row, "config."+source, l.stored(l.version)); err != nil {
		return err
	}
	l.version, l.overrides, l.expired = row, next, false
	l.recompute()
	return nil
}

// stored returns a version as the next one stores it. For none it returns the configuration at the start.
func (l *Settings) stored(row settings.VersionRow) settings.VersionRow {
	if row.Version == 0 {
		row.At, row.Digest, row.Effective = l.now().UnixMilli(), l.started.Digest(), storedValues(l.started)
	}
	return row
}

// storedValues returns all hot keys as JSON. If that is too long it leaves out the longest values, so that a change can
// always be stored.
func storedValues(l *configs.Loaded) string {
	values := l.HotValues()
	for {
		text, _ := json.Marshal(values) // numbers, texts, lists and maps of them
		if len(text) <= maxStored {
			return string(text)
		}
		delete(values, longest(values))
	}
}

// longest returns the key whose value takes the most bytes.
func longest(values map[string]any) string {
	size := func(path string) int {
		text, _ := json.Marshal(values[path])
		return len(text)
	}
	paths := slices.Sorted(maps.Keys(values))
	return slices.MaxFunc(paths, func(a, b string) int { return cmp.Compare(size(a), size(b)) })
}

// refuse counts and logs an invalid change.
func (l *Settings) refuse(by settings.Author, err error) error {
	l.metrics.reloads.WithLabelValues("invalid").Inc()
	l.log.Warn("a change of the configuration was refused", "actor", by.Actor, "error", err)
	return err
}
