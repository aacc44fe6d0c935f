package configs

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

var channelRate = regexp.MustCompile(`^notify\.[a-z]+\.rate$`)

// Hot reports whether a key may change while Sluice runs.
func Hot(path string) bool {
	switch path {
	case "queue.cap", "queue.min_cap", "queue.max_wait", "queue.batch", "queue.drain", "queue.held", "pool.size", "gateway.admission", "log.level":
		return true
	}
	return strings.HasPrefix(path, "limits.") || channelRate.MatchString(path)
}

// value is what a key holds in this configuration.
func (l *Loaded) value(k key) any { return reflect.ValueOf(l.Config).FieldByIndex(k.index).Interface() }

// mixed is boot with the keys that pick selects taken from fresh.
func mixed(boot, fresh *Loaded, pick func(string) bool) *Loaded {
	out := &Loaded{Config: boot.Config, schema: boot.schema, sources: make(map[string]string, len(boot.sources))}
	to := reflect.ValueOf(&out.Config).Elem()
	for _, k := range boot.schema.keys {
		from := boot
		if pick(k.path) {
			from = fresh
			to.FieldByIndex(k.index).Set(reflect.ValueOf(fresh.value(k)))
		}
		out.sources[k.path] = from.sources[k.path]
	}
	return out
}

// differing lists the keys selected by pick whose values differ.
func differing(a, b *Loaded, pick func(string) bool) []string {
	var paths []string
	for _, k := range a.schema.keys {
		if pick(k.path) && !reflect.DeepEqual(a.value(k), b.value(k)) {
			paths = append(paths, k.path)
		}
	}
	return paths
}

// effective is every hot key as it may be stored and shown.
func (l *Loaded) effective() map[string]any {
	values := map[string]any{}
	for _, k := range l.schema.keys {
		if Hot(k.path) {
			values[k.path] = k.visible(l.value(k))
		}
	}
	return values
}

// stored is effective as a version keeps it. Where all are too long together
// the longest are not kept: a change is stored whatever else is set.
func (l *Loaded) stored() string {
	values := l.effective()
	for {
		text, _ := json.Marshal(values) // numbers, texts, lists and maps of them
		if len(text) <= mostStored {
			return string(text)
		}
		delete(values, longest(values))
	}
}

// longest is the key whose value takes the most room.
func longest(values map[string]any) string {
	size := func(path string) int {
		text, _ := json.Marshal(values[path])
		return len(text)
	}
	paths := slices.Sorted(maps.Keys(values))
	return slices.MaxFunc(paths, func(a, b string) int { return cmp.Compare(size(a), size(b)) })
}

// digest names the hot keys as the file sets them: instances with the same
// file have the same one.
func (l *Loaded) digest() string {
	var lines []string
	for path, value := range l.effective() {
		if strings.HasPrefix(l.sources[path], "file ") {
			text, _ := json.Marshal(value) // numbers, texts, lists and maps of them
			lines = append(lines, path+"="+string(text))
		}
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:6])
}
