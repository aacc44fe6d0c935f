// Package api is what goes over the wire: problem codes and documents, the one table from errors to them, the bodies
// that the server writes and the command line reads, pages and event streams.
package api

import "net/http"

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
		const title = "The Idempotency-Key was used with another payload"
		return problemSpec{http.StatusUnprocessableEntity, title, false}, true
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

// ComesBack reports whether answers with this code carry Retry-After; only these do.
func (c Code) ComesBack() bool {
	spec, _ := specOf(c)
	return spec.retry
}
