package configs

import (
	"reflect"
	"strings"
)

// assignList accepts a list of texts, or one text with commas between.
func assignList(out reflect.Value, raw any) bool {
	list := reflect.MakeSlice(out.Type(), 0, 4)
	add := func(text string) {
		list = reflect.Append(list, reflect.ValueOf(text).Convert(out.Type().Elem()))
	}
	switch v := raw.(type) {
	case string:
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				add(part)
			}
		}
	case []string:
		for _, text := range v {
			add(text)
		}
	case []any:
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				return false
			}
			add(text)
		}
	default:
		return false
	}
	out.Set(list)
	return true
}

// assignMap accepts a section of texts, or name=text pairs with commas between.
func assignMap(out reflect.Value, raw any) bool {
	m := reflect.MakeMap(out.Type())
	put := func(name, text string) {
		m.SetMapIndex(reflect.ValueOf(name).Convert(out.Type().Key()), reflect.ValueOf(text).Convert(out.Type().Elem()))
	}
	switch v := raw.(type) {
	case string:
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			name, text, ok := strings.Cut(part, "=")
			if !ok {
				return false
			}
			put(strings.TrimSpace(name), strings.TrimSpace(text))
		}
	case map[string]any:
		for name, item := range v {
			text, ok := item.(string)
			if !ok {
				return false
			}
			put(name, text)
		}
	default:
		return false
	}
	out.Set(m)
	return true
}

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
