package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/queue"
)

var channelRate = regexp.MustCompile(`^notify\.[a-z]+\.rate$`)

// Hot reports whether a key may change while Sluice runs.
func Hot(path string) bool {
	switch path {
	case "queue.cap", "queue.min_cap", "queue.max_wait", "queue.batch", "queue.drain", "queue.held", "pool.size",
		"gateway.admission", "log.level":
		return true
	}
	return strings.HasPrefix(path, "limits.") || channelRate.MatchString(path)
}

// BySale reports whether a hot key has a value for each sale, and may be set sale by sale.
func BySale(path string) bool { return path == "limits.sales" || path == "queue.held" }

// Keys returns every key in the order of the sections. The caller must not change the list.
func (l *Loaded) Keys() []Key { return l.schema.keys }

// Key finds a key by its path.
func (l *Loaded) Key(path string) (Key, bool) {
	k, ok := l.schema.byPath[path]
	return k, ok
}

// KeyOf returns the key with which the text of an error starts, or "".
func (l *Loaded) KeyOf(text string) string { return l.schema.keyOf(text) }

// Value returns the value of a key in this configuration.
func (l *Loaded) Value(k Key) any { return reflect.ValueOf(l.Config).FieldByIndex(k.index).Interface() }

// With returns the configuration with other values and sources for some keys.
func (l *Loaded) With(values map[string]any, sources map[string]string) *Loaded {
	out := &Loaded{Config: l.Config, schema: l.schema, sources: maps.Clone(l.sources)}
	to := reflect.ValueOf(&out.Config).Elem()
	for path, value := range values {
		to.FieldByIndex(l.schema.byPath[path].index).Set(reflect.ValueOf(value))
		out.sources[path] = sources[path]
	}
	return out
}

// WithHotOf returns the configuration with the hot keys of another one.
func (l *Loaded) WithHotOf(other *Loaded) *Loaded {
	values := map[string]any{}
	for _, k := range l.schema.keys {
		if Hot(k.path) {
			values[k.path] = other.Value(k)
		}
	}
	return l.With(values, other.sources)
}

// Differing lists the keys selected by pick that have another value in other.
func (l *Loaded) Differing(other *Loaded, pick func(path string) bool) []string {
	var paths []string
	for _, k := range l.schema.keys {
		if pick(k.path) && !reflect.DeepEqual(l.Value(k), other.Value(k)) {
			paths = append(paths, k.path)
		}
	}
	return paths
}

// HotValues returns every hot key with its value, as it may be stored and shown.
func (l *Loaded) HotValues() map[string]any {
	values := map[string]any{}
	for _, k := range l.schema.keys {
		if Hot(k.path) {
			values[k.path] = k.Visible(l.Value(k))
		}
	}
	return values
}

// Digest returns a hash of the hot keys as the file sets them. Instances with the same file have the same digest.
func (l *Loaded) Digest() string {
	var lines []string
	for path, value := range l.HotValues() {
		if strings.HasPrefix(l.sources[path], "file ") {
			text, _ := json.Marshal(value) // numbers, texts, lists and maps of them
			lines = append(lines, path+"="+string(text))
		}
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:6])
}

// CheckAlone refuses a value that a hot key never accepts, whatever the other keys are.
func (k Key) CheckAlone(value any) error {
	cfg := Default()
	// With these values of other keys, every allowed value of a single hot key passes.
	cfg.Queue.Cap, cfg.Queue.MinCap, cfg.Queue.MaxWait = queue.MaxCap, 1, time.Second
	reflect.ValueOf(&cfg).Elem().FieldByIndex(k.index).Set(reflect.ValueOf(value))
	return cfg.CheckHot()
}
