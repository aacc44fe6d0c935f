package api

import (
	"net/http"
	"strings"
)

// IdempotencyHeader names the header with which a request can be repeated.
const IdempotencyHeader = "Idempotency-Key"

const (
	maxIdempotencyKey  = 255
	idempotencyKeyRule = "must come once, as 1 to 255 printable ASCII bytes, quoted (\"…\") " +
		"or bare without spaces, commas and quotes"
)

// IdempotencyKey reads the header; no header is an empty key. The quoted form (a structured-field string) and the bare
// one that many clients send name the same key. Anything else is the 400 that names the header.
func IdempotencyKey(h http.Header) (string, *Problem) {
	values := h[IdempotencyHeader]
	if len(values) == 0 {
		return "", nil
	}
	if len(values) == 1 {
		if key, ok := parseIdempotencyKey(values[0]); ok {
			return key, nil
		}
	}
	p := InvalidRequest(FieldError{IdempotencyHeader, idempotencyKeyRule})
	return "", &p
}

func parseIdempotencyKey(text string) (string, bool) {
	key := text
	if strings.HasPrefix(text, `"`) {
		var ok bool
		if key, ok = unquoteField(text); !ok {
			return "", false
		}
	} else if strings.ContainsAny(text, ` ",`) {
		return "", false
	}
	if key == "" || len(key) > maxIdempotencyKey {
		return "", false
	}
	for i := 0; i < len(key); i++ {
		if key[i] < 0x20 || key[i] > 0x7e {
			return "", false
		}
	}
	return key, true
}

// unquoteField reads an RFC 9651 string: only \" and \\ are escapes.
func unquoteField(text string) (string, bool) {
	if len(text) < 2 || text[len(text)-1] != '"' {
		return "", false
	}
	inner := text[1 : len(text)-1]
	if !strings.ContainsAny(inner, `"\`) {
		return inner, true
	}
	var plain strings.Builder
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '"':
			return "", false
		case '\\':
			i++
			if i == len(inner) || (inner[i] != '"' && inner[i] != '\\') {
				return "", false
			}
		}
		plain.WriteByte(inner[i])
	}
	return plain.String(), true
}
