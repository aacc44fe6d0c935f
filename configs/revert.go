package configs

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"sluice/gateway"
)

// asOf is an overlay under which the keys that start with prefix have the
// values they had at version to. What the file says differently by now is
// pinned; the rest stays as free as it was.
func (l *Live) asOf(ctx context.Context, to int64, prefix string) (overlay, error) {
	next := overlay{}
	for path, v := range l.overlay {
		if !strings.HasPrefix(path, prefix) {
			next[path] = v
		}
	}
	if to == 0 && l.version.Version > 0 {
		return next, nil // before the first change no key was set
	}
	if to < 0 || to >= l.version.Version {
		return nil, fmt.Errorf("version %d: %w", to, gateway.ErrNoVersion)
	}
	row, err := l.versions.get(ctx, to)
	if err != nil {
		return nil, err
	}
	then, err := parseOverlay(row.Overlay)
	if err != nil {
		return nil, err
	}
	then, _ = then.at(l.now())
	for path, v := range then {
		if strings.HasPrefix(path, prefix) {
			next[path] = v
		}
	}
	counts, err := l.base.over(next)
	if err != nil {
		return nil, l.invalid(err)
	}
	is := counts.effective()
	for path, was := range row.values() {
		if strings.HasPrefix(path, prefix) && !sameJSON(is[path], was) && then[path].Until == 0 {
			next[path] = overlaid{Value: was}
		}
	}
	return next, nil
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
