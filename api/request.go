package api

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

const (
	requestIDHeader   = "X-Request-Id" // canonical form of X-Request-ID
	maxRequestIDBytes = 64
)

// AssignRequestID keeps the client's X-Request-ID if it is 1..64 letters, digits, dots, dashes or underscores. Else
// it makes one. It echoes it.
func AssignRequestID() gin.HandlerFunc {
	return func(c *gin.Context) {
		id := ""
		if values := c.Request.Header[requestIDHeader]; len(values) == 1 && validRequestID(values[0]) {
			id = values[0]
		} else {
			id = newRequestID()
		}
		c.Writer.Header()[requestIDHeader] = []string{id}
	}
}

// RequestID returns the id of the current request; empty outside AssignRequestID.
func RequestID(c *gin.Context) string {
	// The answer's header is its only home: a value in the context would cost an allocation more.
	if values := c.Writer.Header()[requestIDHeader]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// newRequestID makes 26 letters and digits that nobody is given twice: 128 random bits, and no secret.
func newRequestID() string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], rand.Uint64()) // #nosec G404 -- it names a request and guards nothing
	binary.BigEndian.PutUint64(raw[8:], rand.Uint64()) // #nosec G404
	var text [26]byte
	base32.HexEncoding.WithPadding(base32.NoPadding).Encode(text[:], raw[:])
	return string(text[:])
}

func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestIDBytes {
		return false
	}
	for i := 0; i < len(id); i++ {
		if b := id[i]; !alphanumeric(b) && b != '.' && b != '-' && b != '_' {
			return false
		}
	}
	return true
}

func alphanumeric(b byte) bool {
	return (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z')
}

// NoteRefusal leaves a refusal's code with the request, for the access log and the counters.
func NoteRefusal(c *gin.Context, note *gin.Error) { c.Errors = append(c.Errors, note) }

// RefusalNote makes what NoteRefusal leaves. It may be shared by many requests.
func RefusalNote(code Code) *gin.Error {
	return &gin.Error{Err: errRefused, Type: gin.ErrorTypePublic, Meta: code}
}

var errRefused = errors.New("refused")

// RefusalOf returns the code with which a request was refused; empty when it was not.
func RefusalOf(c *gin.Context) Code {
	if last := c.Errors.Last(); last != nil {
		code, _ := last.Meta.(Code)
		return code
	}
	return ""
}

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
