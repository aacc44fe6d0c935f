package configs

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Decode converts a value from YAML, the environment or a flag to the key's type. The error names the key and the
// allowed values, and quotes the value unless it is secret.
func (k Key) Decode(raw any) (any, error) {
	out := reflect.New(k.typ).Elem()
	if !assign(out, raw) {
		if k.secret {
			return nil, fmt.Errorf("%s must be %s", k.path, allowed(k.typ))
		}
		return nil, fmt.Errorf("%s must be %s, got %s", k.path, allowed(k.typ), Quote(raw))
	}
	return out.Interface(), nil
}

// Quote returns a wrong value for an error, shortened.
func Quote(raw any) string {
	const most = 80
	text := fmt.Sprintf("%v", raw)
	if s, ok := raw.(string); ok {
		text = strconv.Quote(s)
	}
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// assign sets out from raw and reports whether raw has a form that fits.
func assign(out reflect.Value, raw any) bool {
	if raw == nil {
		return false
	}
	if v := reflect.ValueOf(raw); v.Type() == out.Type() {
		out.Set(v)
		return true
	}
	if out.Type() == reflect.TypeFor[time.Duration]() {
		return assignDuration(out, raw)
	}
	switch out.Kind() {
	case reflect.String:
		text, ok := raw.(string)
		out.SetString(text)
		return ok
	case reflect.Bool:
		text, ok := raw.(string)
		on, err := strconv.ParseBool(strings.TrimSpace(text))
		out.SetBool(on)
		return ok && err == nil
	case reflect.Float64:
		f, ok := toFloat(raw)
		out.SetFloat(f)
		return ok
	case reflect.Slice:
		return assignList(out, raw)
	case reflect.Struct:
		return assignSection(out, raw)
	case reflect.Map:
		if out.Type().Elem().Kind() == reflect.Struct {
			return assignSections(out, raw)
		}
		return assignMap(out, raw)
	}
	n, ok := toInt(raw)
	if !ok || out.OverflowInt(n) {
		return false
	}
	out.SetInt(n)
	return true
}

func assignDuration(out reflect.Value, raw any) bool {
	text, ok := raw.(string)
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if !ok || err != nil {
		n, isInt := toInt(raw) // 0 needs no unit
		return isInt && n == 0
	}
	out.SetInt(int64(d))
	return true
}

func toInt(raw any) (int64, bool) {
	switch v := raw.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64 // #nosec G115 -- checked beside it
	case float64: // YAML reads 1e4 as one; 2^63 itself does not fit
		return int64(v), v == math.Trunc(v) && v >= math.MinInt64 && v < math.MaxInt64
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}

func toFloat(raw any) (float64, bool) {
	switch v := raw.(type) {
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	n, ok := toInt(raw)
	return float64(n), ok
}
