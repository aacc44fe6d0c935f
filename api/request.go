package api

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"math/rand/v2"

	"github.com/gin-gonic/gin"
)

const (
	requestIDHeader   = "X-Request-Id" // canonical form of X-Request-ID
	maxRequestIDBytes = 64
)

// AssignRequestID keeps the client's X-Request-ID if it is 1..64 letters, digits, dots, dashes or underscores, else
// makes one, and echoes it.
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
