package configs

import (
	"reflect"
	"strings"
)

// fieldsOf maps the koanf names of a struct's fields to their indexes.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		fields[t.Field(i).Tag.Get("koanf")] = i
	}
	return fields
}

// assignSections fills a map of structs from a section of sections, or from
// name.field=value pairs with commas between.
func assignSections(out reflect.Value, raw any) bool {
	if text, ok := raw.(string); ok {
		sections, ok := parseSections(text)
		return ok && assignSections(out, sections)
	}
	sections, ok := raw.(map[string]any)
	if !ok {
		return false
	}
	m := reflect.MakeMap(out.Type())
	for name, value := range sections {
		item := reflect.New(out.Type().Elem()).Elem()
		if !assignSection(item, value) {
			return false
		}
		m.SetMapIndex(reflect.ValueOf(name), item)
	}
	out.Set(m)
	return true
}

func assignSection(out reflect.Value, raw any) bool {
	values, ok := raw.(map[string]any)
	fields := fieldsOf(out.Type())
	for name, value := range values {
		i, known := fields[name]
		if !known {
			return false
		}
		field := out.Field(i)
		if field.Kind() == reflect.Pointer {
			field.Set(reflect.New(field.Type().Elem()))
			field = field.Elem()
		}
		if !assign(field, value) {
			return false
		}
	}
	return ok
}

func parseSections(text string) (map[string]any, bool) {
	sections := map[string]any{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		path, value, ok := strings.Cut(part, "=")
		name, field, nested := strings.Cut(strings.TrimSpace(path), ".")
		if !ok || !nested {
			return nil, false
		}
		section, _ := sections[name].(map[string]any)
		if section == nil {
			section = map[string]any{}
			sections[name] = section
		}
		section[field] = strings.TrimSpace(value)
	}
	return sections, true
}
