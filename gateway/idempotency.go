package gateway

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const (
	idempotencyHeader  = "Idempotency-Key"
	maxIdempotencyKey  = 255
	idempotencyKeyRule = "must come once, as 1 to 255 printable ASCII bytes, quoted (\"…\") or bare without spaces, commas and quotes"
)

// IdempotencyKey reads the header; no header is an empty key. The quoted form (a structured-field string) and the bare
// one that many clients send name the same key. Anything else is the 400 that names the header.
func IdempotencyKey(h http.Header) (string, *Problem) {
	values := h[idempotencyHeader]
	if len(values) == 0 {
		return "", nil
	}
	if len(values) == 1 {
		if key, ok := parseIdempotencyKey(values[0]); ok {
			return key, nil
		}
	}
	p := InvalidRequest(FieldError{idempotencyHeader, idempotencyKeyRule})
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

// Fingerprint is 8 hex digits that differ when the payload differs. It tells a repeated request from a changed one; it
// protects nothing.
func Fingerprint(body OrderBody) string {
	parts := [...]string{strconv.Itoa(body.Quantity), body.Email, body.Phone, body.Locale}
	given := len(parts)
	if body.Locale == "" { // without one the same request has the fingerprint it always had
		given--
	}
	sum := hashParts(parts[:given]...)
	return hex.EncodeToString(sum[:4])
}

// newUUID is a UUIDv7. Its only error is a failing random source, on which Go itself ends the process.
func newUUID() string { return uuid.Must(uuid.NewV7()).String() }

// hashParts hashes each part behind its length, so that ("ab","c") and ("a","bc") differ.
func hashParts(parts ...string) [sha256.Size]byte {
	var room [256]byte // enough for nearly everybody
	text := room[:0]
	for _, part := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}
