package api

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

// FieldError says which member of the body, query or header is wrong and what is allowed.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

// Field returns what is wrong with a member.
func Field(name, rule string) FieldError { return FieldError{Field: name, Detail: rule} }

// Problem is an RFC 9457 document. Build it with NewProblem; the fields without a JSON name shape the headers.
type Problem struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail,omitempty"`
	Code      Code         `json:"code"`
	RequestID string       `json:"request_id,omitempty"` // filled by WriteProblem
	Errors    []FieldError `json:"errors,omitempty"`
	OrderID   string       `json:"order_id,omitempty"`
	StartsAt  string       `json:"starts_at,omitempty"` // RFC 3339, UTC

	With any `json:"-"` // further members of the body (RFC 9457, section 3.2): a struct, or nil

	// rounded up to whole seconds, at least one; ignored by codes that must not have it
	RetryAfter time.Duration `json:"-"`
	TokenSent  bool          `json:"-"` // 401: the client sent a token, so the challenge says invalid_token
	BusyURL    string        `json:"-"` // queue_full: where a browser goes instead
	// RateLimit and RateLimitPolicy are the headers of a rate_limited; empty: none are sent.
	RateLimit       string `json:"-"`
	RateLimitPolicy string `json:"-"`
}

// NewProblem fills type, title and status from the code. The detail of an internal or unknown code is replaced. What
// went wrong inside belongs in the log, never in an answer.
func NewProblem(code Code, detail string) Problem {
	spec, known := specOf(code)
	if !known {
		code = CodeInternal
		spec, _ = specOf(code)
	}
	if code == CodeInternal {
		detail = "The error has been logged under this request_id; quote it when you ask for help."
	}
	return Problem{Type: problemType + string(code), Title: spec.title, Status: spec.status, Detail: detail, Code: code}
}

// InvalidRequest returns the 400 that names each wrong field.
func InvalidRequest(errs ...FieldError) Problem {
	p := NewProblem(CodeInvalidRequest, "See errors for each member that is wrong.")
	p.Errors = errs
	return p
}

// WriteProblem answers with p and stops the handler chain. It does nothing but stop the chain if the answer has
// already begun. A browser refused by queue_full is sent to p.BusyURL (303) when one is set.
func WriteProblem(c *gin.Context, p Problem) {
	c.Abort()
	if c.Writer.Written() {
		return
	}
	p.RequestID = RequestID(c)
	NoteRefusal(c, RefusalNote(p.Code))
	setProblemHeaders(c.Writer.Header(), p)
	if p.Code == CodeQueueFull && p.BusyURL != "" {
		c.Writer.Header().Add("Vary", "Accept")
		if prefersHTML(c.Request.Header.Values("Accept")) {
			c.Writer.Header().Set("Location", p.BusyURL)
			c.Status(http.StatusSeeOther)
			c.Writer.WriteHeaderNow()
			return
		}
	}
	body, err := json.Marshal(p)
	if err != nil { // every field is a string, a number or a list of strings
		body = []byte(`{"status":` + strconv.Itoa(p.Status) + `}`)
	}
	if p.With != nil {
		body = joinMembers(body, p.With)
	}
	c.Data(p.Status, "application/problem+json", body)
}

// joinMembers adds the members of a struct to those of a body.
func joinMembers(body []byte, with any) []byte {
	more, err := json.Marshal(with)
	if err != nil || len(more) <= len("{}") {
		return body
	}
	return append(append(body[:len(body)-1], ','), more[1:]...)
}

func setProblemHeaders(h http.Header, p Problem) {
	h.Set("Cache-Control", "no-store")
	if spec, _ := specOf(p.Code); spec.retry {
		h.Set("Retry-After", strconv.FormatInt(WholeSeconds(p.RetryAfter), 10))
	}
	if p.Code == CodeUnauthorized {
		challenge := `Bearer realm="sluice"`
		if p.TokenSent {
			challenge += `, error="invalid_token"`
		}
		h.Set("WWW-Authenticate", challenge)
	}
	if p.RateLimitPolicy != "" {
		h.Set("RateLimit-Policy", p.RateLimitPolicy)
		h.Set("RateLimit", p.RateLimit)
	}
}

// Unauthorized returns the 401 with the reason; sent says that the client sent a token, which was refused.
func Unauthorized(reason string, sent bool) Problem {
	p := NewProblem(CodeUnauthorized, reason)
	p.TokenSent = sent
	return p
}

// RetryAfter returns base plus a uniform share of spread, so that refused clients do not come back together.
func RetryAfter(base, spread time.Duration) time.Duration {
	if spread <= 0 {
		return base
	}
	return base + rand.N(spread+1) // #nosec G404 -- jitter
}

// WholeSeconds rounds a duration up, and to one at least: "0" would invite the client back at once.
func WholeSeconds(d time.Duration) int64 {
	if d <= time.Second {
		return 1
	}
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return seconds
}
