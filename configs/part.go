package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"sluice/queue"
)

// Some hot keys hold something for each sale. Operators set it sale by sale,
// so that what is set for one ends, and is taken away, without the others:
// "limits.sales.phone" is the part of "limits.sales" that is phone's.

// find returns the key that a path names, and the sale whose part of it is meant.
func (s *schema) find(path string) (k key, part string, ok bool) {
	if k, ok = s.byPath[path]; ok {
		return k, "", true
	}
	cut := strings.LastIndexByte(path, '.')
	if cut < 0 || !queue.ValidSaleID(path[cut+1:]) {
		return key{}, "", false
	}
	k, ok = s.byPath[path[:cut]]
	return k, path[cut+1:], ok && k.bySale()
}

// bySale reports whether the key holds something for each sale.
func (k key) bySale() bool { return k.path == "limits.sales" || k.path == "queue.held" }

// stored is a value in the form in which it is kept; nil is what takes a part away.
func (k key) stored(part string, raw any) (any, error) {
	switch {
	case part == "":
		value, err := k.decode(raw)
		return k.visible(value), err
	case k.typ.Kind() == reflect.Slice:
		on := reflect.New(reflect.TypeFor[bool]()).Elem()
		if raw != nil && !assign(on, raw) {
			return nil, fmt.Errorf("%s must be true or false, got %s", k.path, show(raw))
		}
		if !on.Bool() {
			return nil, nil
		}
		return true, nil
	case raw == nil:
		return nil, nil
	}
	_, err := k.decode(map[string]any{part: raw})
	return raw, err
}

// withPart is the value of a key with one part of it set or taken away.
func (k key) withPart(value any, e entry) (any, error) {
	if list, ok := value.([]string); ok {
		list = slices.DeleteFunc(slices.Clone(list), func(sale string) bool { return sale == e.Part })
		if e.Value != nil {
			list = append(list, e.Part)
		}
		return list, nil
	}
	parts := reflect.MakeMap(k.typ)
	for name, part := range reflect.ValueOf(value).Seq2() {
		parts.SetMapIndex(name, part)
	}
	if e.Value == nil {
		parts.SetMapIndex(reflect.ValueOf(e.Part), reflect.Value{})
		return parts.Interface(), nil
	}
	one, err := k.decode(map[string]any{e.Part: e.Value})
	if err != nil {
		return nil, err
	}
	for name, part := range reflect.ValueOf(one).Seq2() {
		parts.SetMapIndex(name, part)
	}
	return parts.Interface(), nil
}
