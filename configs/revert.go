package configs

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

// lookBack is how many versions are read at once to find the one to go back to.
const lookBack = 100

// Revert implements gateway.Settings.
func (l *Live) Revert(ctx context.Context, to int64, prefix string, by settings.Author) error {
	find, tries := l.lastOther, 1 // what another instance has just changed is not what was to be reverted
	if to != 0 {
		find = func(ctx context.Context, prefix string) (overlay, error) { return l.versionOf(ctx, to, prefix) }
		tries = mostTries
	}
	return l.decide(ctx, by.IfVersion, tries, func() error {
		o, err := find(ctx, prefix)
		if err != nil {
			return err
		}
		return l.store(ctx, "revert", o, by)
	})
}

func (l *Live) versionOf(ctx context.Context, to int64, prefix string) (overlay, error) {
	if to < 0 || to >= l.version.Version {
		return nil, fmt.Errorf("version %d: %w", to, settings.ErrNoVersion)
	}
	row, err := l.versions.get(ctx, to)
	if err != nil {
		return nil, err
	}
	return l.asOf(row, prefix)
}

// lastOther goes back to the newest version that would make a difference to
// the keys under prefix: those between changed other keys, or are over.
func (l *Live) lastOther(ctx context.Context, prefix string) (overlay, error) {
	for before := l.version.Version; before > 0; {
		rows, err := l.versions.older(ctx, before, lookBack)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			o, err := l.asOf(row, prefix)
			if err != nil || o.String() != l.overlay.String() {
				return o, err
			}
		}
		before = rows[len(rows)-1].Version
	}
	return nil, fmt.Errorf("none makes a difference: %w", settings.ErrNoVersion)
}

// asOf is an overlay under which the keys that start with prefix have the
// values they had at a version, but for what was to end and has. What the file
// says differently by now is pinned; the rest stays as free as it was.
func (l *Live) asOf(row versionRow, prefix string) (overlay, error) {
	then, err := parseOverlay(row.Overlay)
	if err != nil {
		return nil, err
	}
	next := l.overlay.under(prefix, false).with(then.at(l.now()).under(prefix, true)...)
	if row.Digest == l.digest {
		return next, nil
	}
	counts, _, _ := l.base.over(next)
	is, were := counts.effective(), row.values()
	for _, path := range slices.Sorted(maps.Keys(were)) {
		// Of a key that was set for a time then, nobody knows by now what the file said.
		if strings.HasPrefix(path, prefix) && len(then.of(path)) == 0 && l.byFile(path) && !sameJSON(is[path], were[path]) {
			next = next.with(entry{Key: path, Value: were[path]})
		}
	}
	return next, nil
}

// byFile reports whether the file decides what a key is that operators leave alone.
func (l *Live) byFile(path string) bool {
	source := l.base.sources[path]
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
