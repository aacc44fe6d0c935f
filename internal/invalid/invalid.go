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

// Name reports whether text is 1 to most letters, digits and characters of others, starting with a letter or digit.
func Name(text string, most int, others string) bool {
	for i, r := range text {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || !strings.ContainsRune(others, r)) {
			return false
		}
	}
	return len(text) >= 1 && len(text) <= most
}
