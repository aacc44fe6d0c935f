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

// Some hot keys have a value for each sale. Operators set these sale by sale, so that each can end or be removed alone.
// "limits.sales.phone" sets the value of "limits.sales" for the sale phone.

// find returns the key that a path names, and the sale if the path names one.
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

// toStored converts the value of a request to its stored form; nil removes a sale's value.
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

// isList reports whether a key is a list of the sales for which it is on.
func isList(k configs.Key) bool { return k.Type().Kind() == reflect.Slice }

// toSwitch does what toStored does, for a key that lists sales. It returns true, or nil to remove the sale.
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

// apply returns the value of a key after an override of the key or of one sale in it.
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

// check refuses an override with a value that the key never accepts.
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

// accept returns the overrides that this version accepts, the keys of the others, and why those are left out. Each is
// checked alone, so that no other error undoes what an operator has set.
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

// applyOverrides returns a configuration with accepted overrides applied.
func applyOverrides(base *configs.Loaded, accepted settings.Overrides) *configs.Loaded {
	values, sources := map[string]any{}, map[string]string{}
	for _, o := range accepted {
		k, _ := base.Key(o.Key)
		value, known := values[o.Key]
		if !known {
			value = base.Value(k)
		}
		if o.Value == nil && o.Sale == "" { // unset: the other sources decide
			values[o.Key], sources[o.Key] = base.Value(k), base.Source(o.Key)
			continue
		}
		values[o.Key], _ = apply(k, value, o) // accept has checked it
		sources[o.Key] = "admin"
	}
	return base.With(values, sources)
}

// acceptAndApply applies the overrides that this version accepts. It returns the keys left out, and why.
func acceptAndApply(base *configs.Loaded, all settings.Overrides) (*configs.Loaded, []string, error) {
	accepted, leftOut, errs := accept(base, all)
	return applyOverrides(base, accepted), leftOut, errors.Join(errs...)
}

// misfits returns an error for each hot key that contradicts others.
func misfits(l *configs.Loaded) []error { return configs.SplitErrors(l.Config.CheckHot()) }
