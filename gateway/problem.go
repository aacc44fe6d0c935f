package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/gateway/auth"
	"sluice/gateway/ratelimit"

	"github.com/gin-gonic/gin"
)

// Code is the stable word clients switch on.
type Code string

// The refusals of the public listener.
const (
	CodeInvalidRequest      Code = "invalid_request"
	CodeUnauthorized        Code = "unauthorized"
	CodeNotFound            Code = "not_found"
	CodeMethodNotAllowed    Code = "method_not_allowed"
	CodeSaleNotStarted      Code = "sale_not_started"
	CodeSaleEnded           Code = "sale_ended"
	CodeSalePaused          Code = "sale_paused"
	CodeLimitReached        Code = "limit_reached"
	CodeSoldOut             Code = "sold_out"
	CodeNotCancellable      Code = "not_cancellable"
	CodeConflict            Code = "conflict" // operations listener, and payments
	CodeNotConfirmed        Code = "not_confirmed"
	CodeForbidden           Code = "forbidden"             // operations listener only
	CodeStale               Code = "precondition_failed"   // operations listener only
	CodeNoCondition         Code = "precondition_required" // operations listener only
	CodeIdempotencyMismatch Code = "idempotency_mismatch"
	CodeTooLarge            Code = "too_large"
	CodeUnsupportedMedia    Code = "unsupported_media_type"
	CodeRateLimited         Code = "rate_limited"
	CodeQueueFull           Code = "queue_full"
	CodeUnavailable         Code = "unavailable"
	CodeInternal            Code = "internal"
)

const problemType = "urn:sluice:problem:"

type problemSpec struct {
	status int
	title  string
	retry  bool // answers carry Retry-After, and only these do
}

// specOf is the one table from code to status and title. An unknown code is internal.
func specOf(code Code) (problemSpec, bool) {
	switch code {
	case CodeInvalidRequest:
		return problemSpec{http.StatusBadRequest, "The request is not valid", false}, true
	case CodeUnauthorized:
		return problemSpec{http.StatusUnauthorized, "Authentication is needed", false}, true
	case CodeNotFound:
		return problemSpec{http.StatusNotFound, "Nothing is here", false}, true
	case CodeMethodNotAllowed:
		return problemSpec{http.StatusMethodNotAllowed, "The method is not allowed here", false}, true
	case CodeSaleNotStarted:
		return problemSpec{http.StatusForbidden, "The sale has not started", true}, true
	case CodeSaleEnded:
		return problemSpec{http.StatusGone, "The sale has ended", false}, true
	case CodeSalePaused:
		return problemSpec{http.StatusServiceUnavailable, "The sale is paused", true}, true
	case CodeLimitReached:
		return problemSpec{http.StatusConflict, "The limit per person is reached", false}, true
	case CodeSoldOut:
		return problemSpec{http.StatusConflict, "Sold out", false}, true
	case CodeNotCancellable:
		return problemSpec{http.StatusConflict, "The order can no longer be cancelled", false}, true
	case CodeConflict:
		return problemSpec{http.StatusConflict, "The change does not fit the present state", false}, true
	case CodeNotConfirmed:
		return problemSpec{http.StatusTooEarly, "The order is not confirmed yet", true}, true
	case CodeForbidden:
		return problemSpec{http.StatusForbidden, "The token's role may not do this", false}, true
	case CodeStale:
		return problemSpec{http.StatusPreconditionFailed, "It was changed meanwhile", false}, true
	case CodeNoCondition:
		return problemSpec{http.StatusPreconditionRequired, "If-Match is needed", false}, true
	case CodeIdempotencyMismatch:
		return problemSpec{http.StatusUnprocessableEntity, "The Idempotency-Key was used with another payload", false}, true
	case CodeTooLarge:
		return problemSpec{http.StatusRequestEntityTooLarge, "The body is too large", false}, true
	case CodeUnsupportedMedia:
		return problemSpec{http.StatusUnsupportedMediaType, "The body must be JSON", false}, true
	case CodeRateLimited:
		return problemSpec{http.StatusTooManyRequests, "Too many requests", true}, true
	case CodeQueueFull:
		return problemSpec{http.StatusServiceUnavailable, "The line is full", true}, true
	case CodeUnavailable:
		return problemSpec{http.StatusServiceUnavailable, "The service is not available right now", true}, true
	case CodeInternal:
		return problemSpec{http.StatusInternalServerError, "Something went wrong on our side", false}, true
	}
	return problemSpec{}, false
}

// FieldError says which member of the body, query or header is wrong and what is allowed.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

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
	RetryAfter time.Duration      `json:"-"`
	TokenSent  bool               `json:"-"` // 401: the client sent a token, so the challenge says invalid_token
	BusyURL    string             `json:"-"` // queue_full: where a browser goes instead
	Limit      ratelimit.Decision `json:"-"` // rate_limited: the policy that refused
}

// NewProblem fills type, title and status from the code. The detail of an internal or unknown code is replaced:
// what went wrong inside belongs in the log, never in an answer.
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

// InvalidRequest is the 400 that names each wrong field.
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
	noteProblem(c, refusedAs(p.Code))
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
		h.Set("Retry-After", strconv.FormatInt(wholeSeconds(p.RetryAfter), 10))
	}
	if p.Code == CodeUnauthorized {
		challenge := `Bearer realm="sluice"`
		if p.TokenSent {
			challenge += `, error="invalid_token"`
		}
		h.Set("WWW-Authenticate", challenge)
	}
	if policy, state := p.Limit.Headers(); policy != "" {
		h.Set("RateLimit-Policy", policy)
		h.Set("RateLimit", state)
	}
}

// UnauthorizedProblem is the 401 for an error of User or Admin.
func UnauthorizedProblem(err error) Problem {
	p := NewProblem(CodeUnauthorized, "Send a valid token.")
	if refusal, ok := errors.AsType[*auth.RefusalError](err); ok {
		p.Detail, p.TokenSent = refusal.Reason, refusal.Sent
	}
	return p
}

// limited is the 429 for a refusal; WriteProblem adds the RateLimit headers.
func limited(d ratelimit.Decision) Problem {
	p := NewProblem(CodeRateLimited, fmt.Sprintf("The %s limit is %d requests in %d s; wait for Retry-After.",
		d.Policy, d.Limit, d.Window))
	p.RetryAfter, p.Limit = d.RetryAfter, d
	return p
}

// RetryAfter is base plus a uniform share of spread, so that refused clients do not come back together.
func RetryAfter(base, spread time.Duration) time.Duration {
	if spread <= 0 {
		return base
	}
	return base + rand.N(spread+1) // #nosec G404 -- jitter
}

// wholeSeconds rounds up, and to one at least: "0" would invite the client back at once.
func wholeSeconds(d time.Duration) int64 {
	if d <= time.Second {
		return 1
	}
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return seconds
}

// prefersHTML reports whether the Accept lines ask for text/html rather than JSON. A bare */* is how programs say
// that they do not care, so it never counts as HTML; on equal weight a JSON type named outright wins.
func prefersHTML(accept []string) bool {
	const named, family, any = 3, 2, 1
	var html, jsn struct {
		q     float64
		level int
	}
	for _, line := range accept {
		for part := range strings.SplitSeq(line, ",") {
			mediaRange, params, _ := strings.Cut(part, ";")
			q := qualityOf(params)
			switch strings.ToLower(strings.TrimSpace(mediaRange)) {
			case "text/html":
				html.q, html.level = q, named
			case "text/*":
				if html.level < family {
					html.q, html.level = q, family
				}
			case "application/json", "application/problem+json":
				if jsn.level < named || q > jsn.q {
					jsn.q, jsn.level = q, named
				}
			case "application/*":
				if jsn.level < family {
					jsn.q, jsn.level = q, family
				}
			case "*/*":
				if jsn.level < any {
					jsn.q, jsn.level = q, any
				}
			}
		}
	}
	return html.q > jsn.q || (html.q > 0 && html.q == jsn.q && html.level > jsn.level)
}

// qualityOf reads the q parameter; absent is 1, and a value outside 0..1 makes the range unacceptable.
func qualityOf(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			return 0
		}
		return q
	}
	return 1
}
