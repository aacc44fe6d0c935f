package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Options is the sources of a configuration.
type Options struct {
	File     string         // YAML file; empty for none
	FS       fs.FS          // where File is; nil means the file system of the machine. Shipped is one.
	Env      []string       // NAME=value pairs as os.Environ returns them; other names than SLUICE_… are ignored
	Flags    map[string]any // by key ("queue.cap"); only flags the user gave
	Defaults map[string]any // by key: a command's own defaults, instead of the general ones
	Sections []string       // the sections this command needs to be valid; empty means all

	running bool // a running process reads again: files that values name, such as templates, were read before
}

// Loaded is a valid configuration with the source of each value. It is immutable and safe for concurrent use.
type Loaded struct {
	Config Config

	schema  *schema
	content [32]byte // hash of the file
	sources map[string]string
	opts    Options
	again   func() (*Loaded, error)
}

// Load fills a Config: flag before environment before file before default. It returns one error for all unknown keys
// and values that are not allowed. Each line names the key, its source and the allowed values, and shows no secret.
func Load(opts Options) (*Loaded, error) {
	cfg := Default()
	s := newSchema(reflect.TypeFor[Config]())
	file := s.fileLayer(opts.FS, opts.File)
	sources, errs := s.fill(reflect.ValueOf(&cfg).Elem(), file, opts)
	errs = append(errs, s.locate(cfg.validate(opts.Sections), sources)...)
	if !opts.running {
		errs = append(errs, s.locate(cfg.checkFiles(opts.Sections), sources)...)
	}
	if len(errs) > 0 {
		return nil, joinErrors(errs)
	}
	again := opts
	again.running = true
	return &Loaded{Config: cfg, schema: s, content: file.content, sources: sources, opts: opts,
		again: func() (*Loaded, error) { return Load(again) }}, nil
}

// Fixed returns a Loaded without sources, for tests and commands that build their own configuration.
func Fixed(cfg Config) *Loaded {
	l := &Loaded{Config: cfg, schema: newSchema(reflect.TypeFor[Config]()), sources: map[string]string{}}
	for _, k := range l.schema.keys {
		l.sources[k.path] = "default"
	}
	l.again = func() (*Loaded, error) { return l, nil }
	return l
}

// Content returns the hash of the file, zero without a file.
func (l *Loaded) Content() [32]byte { return l.content }

// File returns the name of the file, "" for none.
func (l *Loaded) File() string { return l.opts.File }

// Reload reads the same sources again.
func (l *Loaded) Reload() (*Loaded, error) { return l.again() }

// Source returns what set a key: "default", "file NAME", "env NAME" or "flag".
func (l *Loaded) Source(path string) string { return l.sources[path] }

// fill applies the sources to the defaults in out and returns the source of each key. A key with an error keeps its
// value of the next source below.
func (s *schema) fill(out reflect.Value, file *layer, opts Options) (map[string]string, []error) {
	merged := koanf.New(".")
	sources := make(map[string]string, len(s.keys))
	for _, k := range s.keys {
		sources[k.path] = "default"
	}
	var errs []error
	for _, l := range []*layer{
		s.valueLayer(opts.Defaults, "default"),
		file,
		s.envLayer(opts.Env),
		s.valueLayer(opts.Flags, "flag"),
	} {
		errs = append(errs, l.errs...)
		if err := merged.Load(confmap.Provider(l.values, "."), nil); err != nil {
			errs = append(errs, err)
		}
		for path, source := range l.sources {
			sources[path] = source
		}
	}
	for _, k := range s.keys {
		if sources[k.path] == "default" && !merged.Exists(k.path) {
			continue
		}
		out.FieldByIndex(k.index).Set(reflect.ValueOf(merged.Get(k.path)))
	}
	return sources, errs
}

// locate splits a joined error into its lines and adds to each the source of its key.
func (s *schema) locate(err error, sources map[string]string) []error {
	var located []error
	for _, e := range SplitErrors(err) {
		path := s.keyOf(e.Error())
		if source := sources[path]; path != "" && source != "" {
			e = fmt.Errorf("%w (%s)", e, source)
		}
		located = append(located, e)
	}
	return located
}

// SplitErrors returns the single errors of a joined error.
func SplitErrors(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, SplitErrors(e)...)
	}
	return all
}

// keyOf returns the key with which text starts, or "".
func (s *schema) keyOf(text string) string {
	end := strings.IndexFunc(text, func(r rune) bool {
		return r != '.' && r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	if end < 0 {
		return ""
	}
	if _, ok := s.byPath[text[:end]]; !ok {
		return ""
	}
	return text[:end]
}

// joinErrors joins errs in a stable order under one heading.
func joinErrors(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return fmt.Errorf("the configuration is not valid:\n%w", errors.Join(errs...))
}
