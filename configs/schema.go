package configs

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// envPrefix starts the name of every environment variable Sluice reads.
const envPrefix = "SLUICE_"

// Key is one setting: a leaf of the configuration struct.
type Key struct {
	path   string // as written in a file: "queue.cap"
	index  []int  // of the field, for reflect's FieldByIndex
	typ    reflect.Type
	secret bool // never shown; the _FILE variable may name a file with it
}

// Path returns the key as it is written in a file.
func (k Key) Path() string { return k.path }

// Type returns the type of its value.
func (k Key) Type() reflect.Type { return k.typ }

// env returns the environment variable that sets the key.
func (k Key) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.path, ".", "__"))
}

// schema is every key of a configuration struct, in the order of its fields.
type schema struct {
	keys     []Key
	byPath   map[string]Key
	byEnv    map[string]Key
	sections map[string][]string // section path to the names in it; "" is the top
}

// newSchema reads the koanf tags of struct type t. It panics on a field that it cannot fill, which is a mistake in the
// code.
func newSchema(t reflect.Type) *schema {
	s := &schema{byPath: map[string]Key{}, byEnv: map[string]Key{}, sections: map[string][]string{}}
	s.add(t, "", nil)
	for _, k := range s.keys {
		s.byPath[k.path] = k
		s.byEnv[k.env()] = k
	}
	return s
}

func (s *schema) add(t reflect.Type, section string, index []int) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, option, _ := strings.Cut(field.Tag.Get("koanf"), ",")
		at := append(slices.Clone(index), i)
		if option == "squash" {
			s.add(field.Type, section, at)
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		path := name
		if section != "" {
			path = section + "." + name
		}
		s.sections[section] = append(s.sections[section], name)
		if field.Type.Kind() == reflect.Struct {
			s.add(field.Type, path, at)
			continue
		}
		if !fillable(field.Type) {
			panic(fmt.Sprintf("configs: key %s has type %s, which cannot be configured", path, field.Type))
		}
		s.keys = append(s.keys, Key{path: path, index: at, typ: field.Type, secret: isSecret(name, field.Tag)})
	}
}

func fillable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float64, reflect.Int, reflect.Int32, reflect.Int64:
		return true
	case reflect.Slice:
		return t.Elem().Kind() == reflect.String
	case reflect.Map:
		return t.Key().Kind() == reflect.String && (t.Elem().Kind() == reflect.String || t.Elem().
			Kind() == reflect.Struct)
	}
	return false
}

// secretNames returns the names that make a key secret without the tag `secret:"true"`, alone or after an underscore.
func secretNames() []string {
	return []string{"password", "secret", "secrets", "token", "tokens", "dsn", "api_key", "access_key", "private_key"}
}

func isSecret(name string, tag reflect.StructTag) bool {
	if tag.Get("secret") != "" {
		return tag.Get("secret") == "true"
	}
	return slices.ContainsFunc(secretNames(), func(s string) bool {
		return name == s || strings.HasSuffix(name, "_"+s)
	})
}

// allowed describes what type t accepts, for error messages.
func allowed(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 10s or 1m30s"
	case t.Kind() == reflect.String:
		return "text; put it in quotes"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() == reflect.Slice:
		return "a list of texts"
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Struct:
		return "a section of sections with the keys " + strings.Join(slices.Sorted(maps.Keys(fieldsOf(t.Elem()))), ", ")
	case t.Kind() == reflect.Map:
		return "a section of texts"
	}
	return "a whole number"
}
