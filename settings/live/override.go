package live

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sluice/configs"
	"sluice/queue"
	"sluice/settings"
)

// Some hot keys hold something for each sale. Operators set it sale by sale,
// so that what is set for one ends, and is taken away, without the others:
// "limits.sales.phone" sets what "limits.sales" holds for the sale phone.

// find returns the key that a path names, and the sale for which the path sets it.
func find(l *configs.Loaded, path string) (k configs.Key, sale string, ok bool) {
	if k, ok = l.Key(path); ok {
		return k, "", true
	}
	cut := strings.LastIndexByte(path, '.')
	if cut < 0 || !queue.ValidSaleID(path[cut+1:]) {
		return configs.Key{}, "", false
	}
	k, ok = l.Key(path[:cut])
	return k, path[cut+1:], ok && configs.BySale(k.Path())
}

// toStored turns the value of a request into the form in which it is stored; nil takes away what a sale has.
func toStored(k configs.Key, sale string, raw any) (any, error) {
	switch {
	case sale == "":
		value, err := k.Decode(raw)
		return k.Visible(value), err
	case isList(k):
		return toSwitch(k, raw)
	case raw == nil:
		return nil, nil
	}
	_, err := k.Decode(map[string]any{sale: raw})
	return raw, err
}

// isList reports that a key lists the sales for which it is on.
func isList(k configs.Key) bool { return k.Type().Kind() == reflect.Slice }

// toSwitch is toStored for a key that lists sales: true, or nil for a sale that is not to be listed.
func toSwitch(k configs.Key, raw any) (any, error) {
	on, ok := raw.(bool)
	if text, isText := raw.(string); isText {
		var err error
		on, err = strconv.ParseBool(strings.TrimSpace(text))
		ok = err == nil
	}
	if raw != nil && !ok {
		return nil, fmt.Errorf("%s must be true or false, got %s", k.Path(), configs.Quote(raw))
	}
	if !on {
		return nil, nil
	}
	return true, nil
}

// apply returns the value of a key after an override that sets it, or sets or removes what it holds for a sale.
func apply(k configs.Key, value any, o settings.Override) (any, error) {
	switch {
	case o.Sale == "":
		return k.Decode(o.Value)
	case isList(k):
		list := slices.DeleteFunc(slices.Clone(value.([]string)), func(sale string) bool { return sale == o.Sale })
		if o.Value != nil {
			list = append(list, o.Sale)
		}
		return list, nil
	}
	sales := reflect.MakeMap(k.Type())
	for name, one := range reflect.ValueOf(value).Seq2() {
		sales.SetMapIndex(name, one)
	}
	if o.Value == nil {
		sales.SetMapIndex(reflect.ValueOf(o.Sale), reflect.Value{})
		return sales.Interface(), nil
	}
	decoded, err := k.Decode(map[string]any{o.Sale: o.Value})
	if err != nil {
		return nil, err
	}
	for name, one := range reflect.ValueOf(decoded).Seq2() {
		sales.SetMapIndex(name, one)
	}
	return sales.Interface(), nil
}

// check refuses an override whose value the key never takes.
func check(k configs.Key, o settings.Override) error {
	if o.Sale != "" && !configs.BySale(k.Path()) {
		return fmt.Errorf("%s is not set by sale, got %s", k.Path(), configs.Quote(o.Sale))
	}
	if o.Value == nil {
		return nil
	}
	value, err := apply(k, reflect.Zero(k.Type()).Interface(), o)
	if err != nil {
		return err
	}
	return k.CheckAlone(value)
}

// accept returns the overrides that this version of Sluice takes, the keys of the others, and why those are left
// out. Each is checked by itself: whatever else is wrong, here or on the disk, undoes nothing that an operator has set.
func accept(l *configs.Loaded, all settings.Overrides) (accepted settings.Overrides, leftOut []string, errs []error) {
	for _, o := range all {
		k, ok := l.Key(o.Key)
		if !ok || !configs.Hot(o.Key) {
			continue
		}
		if err := check(k, o); err != nil {
			errs = append(errs, configs.SplitErrors(err)...)
			leftOut = append(leftOut, o.Key)
			continue
		}
		accepted = append(accepted, o)
	}
	return accepted, slices.Compact(leftOut), errs
}

// overlay lays accepted overrides over a configuration.
func overlay(base *configs.Loaded, accepted settings.Overrides) *configs.Loaded {
	values, sources := map[string]any{}, map[string]string{}
	for _, o := range accepted {
		k, _ := base.Key(o.Key)
		value, known := values[o.Key]
		if !known {
			value = base.Value(k)
		}
		if o.Value == nil && o.Sale == "" { // unset: what the other sources say
			values[o.Key], sources[o.Key] = base.Value(k), base.Source(o.Key)
			continue
		}
		values[o.Key], _ = apply(k, value, o) // it was accepted
		sources[o.Key] = "admin"
	}
	return base.With(values, sources)
}

// overlayAll lays those overrides over a configuration that this version takes. It returns the keys left out, and why.
func overlayAll(base *configs.Loaded, all settings.Overrides) (*configs.Loaded, []string, error) {
	accepted, leftOut, errs := accept(base, all)
	return overlay(base, accepted), leftOut, errors.Join(errs...)
}

// misfits lists the hot keys that do not fit each other.
func misfits(l *configs.Loaded) []error { return configs.SplitErrors(l.Config.CheckHot()) }
