package api

import (
	"context"
	"errors"

	"sluice/delay"
	"sluice/internal/coalesce"
	"sluice/internal/invalid"
	"sluice/inventory"
	"sluice/notify"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

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
	case errors.Is(err, delay.ErrNoTopic), errors.Is(err, delay.ErrNoMessage), errors.Is(err, delay.ErrNotDead):
		return CodeNotFound
	case errors.Is(err, delay.ErrFull):
		return CodeQueueFull
	case errors.Is(err, delay.ErrTopicExists), errors.Is(err, delay.ErrManyTopics),
		errors.Is(err, delay.ErrTopicInUse),
		errors.Is(err, delay.ErrConflict), errors.Is(err, delay.ErrNotWaiting):
		return CodeConflict
	case errors.Is(err, order.ErrNotCancellable):
		return CodeNotCancellable
	case errors.Is(err, order.ErrUnconfirmed):
		return CodeNotConfirmed
	case errors.Is(err, inventory.ErrExists), errors.Is(err, inventory.ErrShort), errors.Is(err, inventory.ErrClosed),
		errors.Is(err, queue.ErrUnreadable), errors.Is(err, queue.ErrHeld), errors.Is(err, order.ErrPaymentConflict),
		errors.Is(err, notify.ErrNotDead):
		return CodeConflict
	case errors.Is(err, order.ErrBusy), errors.Is(err, queue.ErrNotReady), errors.Is(err, redis.ErrNotDurable),
		errors.Is(err, inventory.ErrBusy), errors.Is(err, coalesce.ErrOverloaded), errors.Is(err, coalesce.ErrBroken),
		errors.Is(err, context.Canceled), redis.Unavailable(err), store.Unavailable(err):
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
