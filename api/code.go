// Package api has what goes over the wire. There are problem codes and documents, the one table from errors to them,
// pages and event streams. There are the bodies that the server writes and the command line reads.
package api

import (
	"context"
	"errors"
	"net/http"

	"sluice/delay"
	"sluice/internal/coalesce"
	"sluice/internal/invalid"
	"sluice/inventory"
	"sluice/notify"
	"sluice/order"
	"sluice/order/payment"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
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
	CodeForbidden           Code = "forbidden"             // operations and work listener
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

// specOf returns the status and title of a code: the one table of them. An unknown code is
// internal.
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

// CodeOf returns what clients are told of an error: this is the one table from what can go wrong.
// An error that is not in it is internal: logged, not shown.
func CodeOf(err error) Code {
	var notStarted queue.NotStartedError
	var limit queue.LimitError
	var invalid invalid.Error
	switch {
	case errors.As(err, &notStarted):
		return CodeSaleNotStarted
	case errors.As(err, &limit), errors.Is(err, queue.ErrCancels):
		return CodeLimitReached
	case errors.As(err, &invalid):
		return CodeInvalidRequest
	case errors.Is(err, queue.ErrEnded):
		return CodeSaleEnded
	case errors.Is(err, queue.ErrPaused):
		return CodeSalePaused
	case errors.Is(err, queue.ErrFull):
		return CodeQueueFull
	case errors.Is(err, queue.ErrSoldOut):
		return CodeSoldOut
	case errors.Is(err, queue.ErrMismatch), errors.Is(err, inventory.ErrOtherAdjustment):
		return CodeIdempotencyMismatch
	case errors.Is(err, order.ErrNotFound), errors.Is(err, inventory.ErrNoSale), errors.Is(err, queue.ErrNotDead),
		errors.Is(err, notify.ErrNoNotification):
		return CodeNotFound
	case errors.Is(err, delay.ErrNoTopic), errors.Is(err, delay.ErrNoMessage), errors.Is(err, delay.ErrNotDead),
		errors.Is(err, delay.ErrNoSubscription):
		return CodeNotFound
	case errors.Is(err, delay.ErrFull):
		return CodeQueueFull
	case errors.Is(err, delay.ErrTopicExists), errors.Is(err, delay.ErrManyTopics),
		errors.Is(err, delay.ErrTopicInUse),
		errors.Is(err, delay.ErrConflict), errors.Is(err, delay.ErrNotWaiting),
		errors.Is(err, delay.ErrSubscriptionExists), errors.Is(err, delay.ErrManySubscriptions),
		errors.Is(err, delay.ErrSubscriptionInUse), errors.Is(err, delay.ErrSubscribed),
		errors.Is(err, delay.ErrUnsubscribed), errors.Is(err, delay.ErrNotPull),
		errors.Is(err, delay.ErrChannelTopic), errors.Is(err, delay.ErrChannelOff):
		return CodeConflict
	case errors.Is(err, order.ErrNotCancellable):
		return CodeNotCancellable
	case errors.Is(err, payment.ErrUnconfirmed):
		return CodeNotConfirmed
	case errors.Is(err, inventory.ErrExists), errors.Is(err, inventory.ErrShort), errors.Is(err, inventory.ErrClosed),
		errors.Is(err, queue.ErrUnreadable), errors.Is(err, queue.ErrHeld), errors.Is(err, payment.ErrConflict),
		errors.Is(err, notify.ErrNotDead):
		return CodeConflict
	case errors.Is(err, order.ErrBusy), errors.Is(err, queue.ErrNotReady), errors.Is(err, redis.ErrNotDurable),
		errors.Is(err, inventory.ErrBusy), errors.Is(err, coalesce.ErrOverloaded), errors.Is(err, coalesce.ErrBroken),
		errors.Is(err, delay.ErrBehind), errors.Is(err, delay.ErrNoStore), errors.Is(err, delay.ErrStoreDown),
		errors.Is(err, delay.ErrNotReplicated), errors.Is(err, context.Canceled), redis.Unavailable(err),
		store.Unavailable(err):
		return CodeUnavailable
	}
	return CodeInternal
}

// DetailOf returns the sentence that explains a refusal with this code.
func DetailOf(code Code, err error) string {
	switch code {
	case CodeInvalidRequest:
		return "See errors for each member that is wrong."
	case CodeSaleNotStarted:
		return "Orders are not taken yet."
	case CodeSaleEnded:
		return "Orders are no longer taken."
	case CodeSalePaused:
		return "The shop has paused this sale for a moment."
	case CodeLimitReached:
		if errors.Is(err, queue.ErrCancels) {
			return "You have cancelled as many orders of this sale as one person may."
		}
		return "You already hold as many units as one person may order."
	case CodeSoldOut:
		return "No unit is left. Units can come back when orders are cancelled."
	case CodeQueueFull:
		return "So many orders are waiting that no more are taken right now."
	case CodeIdempotencyMismatch:
		return "This Idempotency-Key came before with another payload."
	case CodeNotFound:
		return "No such sale or order. If you hold the receipt of an order, send it as Sluice-Receipt."
	case CodeNotCancellable:
		return "Only an order that is unpaid and has not ended can be cancelled."
	case CodeNotConfirmed:
		return "The order is still in line. Send the payment again once it is confirmed."
	case CodeUnavailable:
		return "The line or the ledger does not answer right now; repeat the request with the same Idempotency-Key."
	case CodeConflict, CodeStale:
		return err.Error()
	}
	return ""
}

// FieldErrors returns what is wrong with each member.
func FieldErrors(bad invalid.Error) []FieldError {
	list := make([]FieldError, len(bad))
	for i, f := range bad {
		list[i] = FieldError(f)
	}
	return list
}
