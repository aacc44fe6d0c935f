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

// parseSections reads name.field=value pairs. A part without = goes on with the value before: lists have commas, too.
func parseSections(text string) (map[string]any, bool) {
	all, names, before := map[string]any{}, []string(nil), ""
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		path, value, ok := strings.Cut(part, "=")
		if ok {
			names, before = strings.Split(strings.TrimSpace(path), "."), strings.TrimSpace(value)
		} else {
			before += "," + part
		}
		if len(names) < 2 || !put(all, names, before) {
			return nil, false
		}
	}
	return all, true
}

// put sets a value within sections, the outermost named first. It returns false where a section is a value already.
func put(sections map[string]any, names []string, value string) bool {
	if len(names) == 1 {
		sections[names[0]] = value
		return true
	}
	if sections[names[0]] == nil {
		sections[names[0]] = map[string]any{}
	}
	within, ok := sections[names[0]].(map[string]any)
	return ok && put(within, names[1:], value)
}
