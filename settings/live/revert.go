package live

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"sluice/settings"
)

// versionsPage is how many versions are read at once to find the one to go back to.
const versionsPage = 100

// Revert brings back the hot keys under prefix as they were at version to, but for what has expired since. To 0 is
// the newest version that makes a difference to them. It returns settings.ErrNoVersion when there is none.
func (l *Settings) Revert(ctx context.Context, to int64, prefix string, by settings.Author) error {
	find, tries := l.lastDifferent, 1 // what another instance has just changed is not what was to be reverted
	if to != 0 {
		find = func(ctx context.Context, prefix string) (settings.Overrides, error) {
			return l.versionOf(ctx, to, prefix)
		}
		tries = mostTries
	}
	return l.retry(ctx, by.IfVersion, tries, func() error {
		o, err := find(ctx, prefix)
		if err != nil {
			return err
		}
		return l.store(ctx, "revert", o, by)
	})
}

func (l *Settings) versionOf(ctx context.Context, to int64, prefix string) (settings.Overrides, error) {
	if to < 0 || to >= l.version.Version {
		return nil, fmt.Errorf("version %d: %w", to, settings.ErrNoVersion)
	}
	row, err := l.versions.Get(ctx, to)
	if err != nil {
		return nil, err
	}
	return l.asOf(row, prefix)
}

// lastDifferent goes back to the newest version that would make a difference to
// the keys under prefix: those between changed other keys, or have expired.
func (l *Settings) lastDifferent(ctx context.Context, prefix string) (settings.Overrides, error) {
	for before := l.version.Version; before > 0; {
		rows, err := l.versions.OlderThan(ctx, before, versionsPage)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			o, err := l.asOf(row, prefix)
			if err != nil || o.String() != l.overrides.String() {
				return o, err
			}
		}
		before = rows[len(rows)-1].Version
	}
	return nil, fmt.Errorf("none makes a difference: %w", settings.ErrNoVersion)
}

// asOf returns overrides under which the keys that start with prefix have the
// values they had at a version, but for what has expired. What the file says
// differently by now is pinned; the rest stays as free as it was.
func (l *Settings) asOf(row settings.VersionRow, prefix string) (settings.Overrides, error) {
	then, err := settings.ParseOverrides(row.Overlay)
	if err != nil {
		return nil, err
	}
	under := func(key string) bool { return strings.HasPrefix(key, prefix) }
	others := l.overrides.Select(func(key string) bool { return !under(key) })
	next := others.With(then.At(l.now()).Select(under)...)
	if row.Digest == l.digest {
		return next, nil
	}
	effective, _, _ := overlayAll(l.base, next)
	is, were := effective.HotValues(), row.Values()
	for _, path := range slices.Sorted(maps.Keys(were)) {
		// Of a key that was set for a time then, nobody knows by now what the file said.
		if under(path) && !then.Has(path) && l.setByFile(path) && !sameJSON(is[path], were[path]) {
			next = next.With(settings.Override{Key: path, Value: were[path]})
		}
	}
	return next, nil
}

// setByFile reports whether the file decides what a key is that operators leave alone.
func (l *Settings) setByFile(path string) bool {
	source := l.base.Source(path)
	return source == "default" || strings.HasPrefix(source, "file ")
}

// sameJSON compares a value with one that has been through JSON.
func sameJSON(is, was any) bool {
	text, err := json.Marshal(is)
	if err != nil {
		return false
	}
	var again any
	return json.Unmarshal(text, &again) == nil && reflect.DeepEqual(again, was)
}
