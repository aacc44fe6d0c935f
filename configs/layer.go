package configs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// layer is the values that one source sets, decoded, by key, with their source.
type layer struct {
	values  map[string]any
	sources map[string]string
	written map[string]string // how the file spells each key
	errs    []error
	content [32]byte // hash of the file; zero without one
}

func newLayer() *layer {
	return &layer{values: map[string]any{}, sources: map[string]string{}, written: map[string]string{}}
}

func (l *layer) fail(source string, err error) {
	l.errs = append(l.errs, fmt.Errorf("%w (%s)", err, source))
}

func (l *layer) set(k Key, raw any, source string) {
	value, err := k.Decode(raw)
	if err != nil {
		l.fail(source, err)
		return
	}
	l.values[k.path], l.sources[k.path] = value, source
}

// errEmpty refuses an empty file, which may be one that is being written. What it had switched off would be on again.
var errEmpty = errors.New("the file sets no key: write one, or start without a configuration file")

// fileLayer reads a YAML file; "" gives an empty layer.
func (s *schema) fileLayer(files fs.FS, name string) *layer {
	l := newLayer()
	if name == "" {
		return l
	}
	text, err := readLimited(files, name)
	if err != nil {
		l.errs = append(l.errs, fmt.Errorf("configuration file: %w", err))
		return l
	}
	l.content = sha256.Sum256(text)
	s.parse(l, text, "file "+name)
	return l
}

func (s *schema) parse(l *layer, text []byte, source string) {
	tree, err := parseYAML(text)
	if err != nil {
		l.fail(source, err)
		return
	}
	s.walk(l, nil, tree, source)
	if len(l.values) == 0 && len(l.errs) == 0 {
		l.fail(source, errEmpty)
	}
}

// walk reads the keys of one section of a file; within is its path. A key without a value counts as absent.
func (s *schema) walk(l *layer, within []string, tree map[string]any, source string) {
	section := strings.Join(within, ".")
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		value, written := tree[name], append(slices.Clone(within), name)
		path := strings.Join(written, ".")
		if k, ok := s.byPath[path]; ok {
			if value != nil {
				l.take(k, value, strings.Join(written, ": "), source)
			}
			continue
		}
		if _, ok := s.sections[path]; !ok || strings.Contains(name, ".") {
			l.fail(source, s.unknown(section, name))
			continue
		}
		switch sub := value.(type) {
		case nil:
		case map[string]any:
			s.walk(l, written, sub, source)
		default:
			l.fail(source, fmt.Errorf("%s must be a section with the keys %s", path,
				strings.Join(s.sections[path], ", ")))
		}
	}
}

// take sets a key of a file. It may be written nested or with dots, but not both.
func (l *layer) take(k Key, value any, written, source string) {
	if other, twice := l.written[k.path]; twice {
		l.fail(source, fmt.Errorf("%s is written twice, as %q and as %q: keep one", k.path, other, written))
		return
	}
	l.written[k.path] = written
	l.set(k, value, source)
}

func (s *schema) unknown(section, name string) error {
	if section == "" {
		return fmt.Errorf("unknown key %s: allowed are %s", Quote(name), strings.Join(s.sections[""], ", "))
	}
	return fmt.Errorf("unknown key %s: allowed in %s are %s",
		Quote(section+"."+name), section, strings.Join(s.sections[section], ", "))
}

// serviceLink matches the variables that Kubernetes adds to every pod for a Service whose name starts with sluice.
var serviceLink = regexp.MustCompile(`^SLUICE(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|` +
	`PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

func foreign(name, value string) bool {
	if name == "SLUICE_TOKEN" || strings.HasPrefix(name, "SLUICE_TEST_") {
		return true
	}
	if strings.Contains(name, "__") || !serviceLink.MatchString(name) {
		return false
	}
	// SLUICE_HTTP_PORT=8080 is a mistake, not a service link.
	return !strings.HasSuffix(name, "_PORT") || strings.Contains(value, "://") ||
		strings.Contains(name, "_SERVICE_") || strings.Contains(name, "_PORT_")
}

// envLayer reads NAME=value pairs; the last of a name wins.
func (s *schema) envLayer(environ []string) *layer {
	l := newLayer()
	vars := map[string]string{}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, envPrefix) &&
			!foreign(name, value) {
			vars[name] = value
		}
	}
	for name, value := range vars {
		source := "env " + name
		if k, ok := s.byEnv[name]; ok {
			l.set(k, value, source)
			continue
		}
		k, ok := s.byEnv[strings.TrimSuffix(name, "_FILE")]
		if !ok || !k.secret || !strings.HasSuffix(name, "_FILE") {
			l.errs = append(l.errs, fmt.Errorf("unknown environment variable %s: no key has this name; "+
				"two underscores nest, as in SLUICE_QUEUE__CAP, and _FILE is for secrets only", name))
			continue
		}
		if _, both := vars[k.env()]; both {
			l.errs = append(l.errs, fmt.Errorf("%s is set twice, by %s and by %s: keep one", k.path, k.env(), name))
			continue
		}
		text, err := readLimited(nil, value)
		if err != nil {
			l.fail(source, fmt.Errorf("%s: %w", k.path, err))
			continue
		}
		l.set(k, strings.TrimRight(string(text), "\r\n"), source)
	}
	return l
}

// valueLayer returns a layer of values by key, from flags or a caller's own defaults.
func (s *schema) valueLayer(values map[string]any, source string) *layer {
	l := newLayer()
	for path, value := range values {
		k, ok := s.byPath[path]
		if !ok {
			l.fail(source, fmt.Errorf("unknown key %s", Quote(path)))
			continue
		}
		l.set(k, value, source)
	}
	return l
}
