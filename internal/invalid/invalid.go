// Package invalid names the fields of a request that break a rule.
package invalid

import (
	"strings"
	"unicode/utf8"
)

// Field is one field with the rule that it breaks.
type Field struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

// Error lists every field that breaks a rule.
type Error []Field

// Error joins the fields with semicolons.
func (e Error) Error() string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = f.Field + " " + f.Detail
	}
	return strings.Join(parts, "; ")
}

// PlainText reports whether s has 1 to most characters, none of which is a control character or broken UTF-8.
func PlainText(s string, most int) bool {
	return s != "" && utf8.RuneCountInString(s) <= most &&
		strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) < 0
}
