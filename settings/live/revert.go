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

// versionsPage is how many versions are read at once to find the one to revert to.
const versionsPage = 100

// Revert restores the hot keys under prefix as they were at version to, without values that have expired since. To 0
// means the newest version in which they differ. It returns settings.ErrNoVersion when there is none.
func (l *Settings) Revert(ctx context.Context, to int64, prefix string, by settings.Author) error {
	find, tries := l.lastDifferent, 1 // no retry: a simultaneous change is not the one to revert
	if to != 0 {
		find = func(ctx context.Context, prefix string) (settings.Overrides, error) {
			return l.overridesToRevertTo(ctx, to, prefix)
		}
		tries = maxTries
	}
	return l.retry(ctx, by.IfVersion, tries, func() error {
		o, err := find(ctx, prefix)
		if err != nil {
			return err
		}
		return l.store(ctx, "revert", o, by)
	})
}

func (l *Settings) overridesToRevertTo(ctx context.Context, to int64, prefix string) (settings.Overrides, error) {
	if to < 0 || to >= l.version.Version {
		return nil, fmt.Errorf("version %d: %w", to, settings.ErrNoVersion)
	}
	row, err := l.versions.Get(ctx, to)
	if err != nil {
		return nil, err
	}
	return l.overridesAsOf(row, prefix)
}

// lastDifferent returns the overrides of the newest version in which keys under prefix differ from now. It skips
// versions that changed other keys or have expired.
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
			o, err := l.overridesAsOf(row, prefix)
			if err != nil || o.String() != l.overrides.String() {
				return o, err
			}
		}
		before = rows[len(rows)-1].Version
	}
	return nil, fmt.Errorf("none makes a difference: %w", settings.ErrNoVersion)
}

// overridesAsOf returns overrides that give the keys under prefix their values of a version, without expired ones.
// Where the file has another value now, the old one becomes an override.
func (l *Settings) overridesAsOf(row settings.VersionRow, prefix string) (settings.Overrides, error) {
	then, err := settings.ParseOverrides(row.Overrides)
	if err != nil {
		return nil, err
	}
	under := func(key string) bool { return strings.HasPrefix(key, prefix) }
	others := l.overrides.Select(func(key string) bool { return !under(key) })
	next := others.With(then.At(l.now()).Select(under)...)
	if row.Digest == l.digest {
		return next, nil
	}
	effective, _, _ := acceptAndApply(l.base, next)
	is, were := effective.HotValues(), row.Values()
	for _, path := range slices.Sorted(maps.Keys(were)) {
		// If a key was set temporarily then, the file's value of that time is unknown.
		if under(path) && !then.Has(path) && l.setByFile(path) && !sameJSON(is[path], were[path]) {
			next = next.With(settings.Override{Key: path, Value: were[path]})
		}
	}
	return next, nil
}

// setByFile reports whether a key without override has its value from the file or a default.
func (l *Settings) setByFile(path string) bool {
	source := l.base.Source(path)
	return source == "default" || strings.HasPrefix(source, "file ")
}

// sameJSON reports whether a value equals one that was decoded from JSON.
func sameJSON(is, was any) bool {
	text, err := json.Marshal(is)
	if err != nil {
		return false
	}
	var again any
	return json.Unmarshal(text, &again) == nil && reflect.DeepEqual(again, was)
}
