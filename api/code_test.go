package api

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/internal/coalesce"
	"sluice/inventory"
	"sluice/queue"
)

func TestEveryErrorHasItsCode(t *testing.T) {
	t.Parallel()
	require.Equal(t, CodeInternal, CodeOf(context.Cause(t.Context())))
	for err, code := range map[error]Code{
		queue.NotStartedError{}: CodeSaleNotStarted, queue.LimitError{}: CodeLimitReached,
		queue.ErrEnded: CodeSaleEnded, queue.ErrPaused: CodeSalePaused,
		queue.ErrFull: CodeQueueFull, queue.ErrSoldOut: CodeSoldOut,
		queue.ErrMismatch: CodeIdempotencyMismatch, queue.ErrNotReady: CodeUnavailable,
		inventory.ErrNoSale: CodeNotFound, inventory.ErrExists: CodeConflict,
		inventory.ErrShort: CodeConflict, inventory.ErrClosed: CodeConflict,
		inventory.ErrBusy: CodeUnavailable, coalesce.ErrOverloaded: CodeUnavailable,
		context.Canceled: CodeUnavailable, context.DeadlineExceeded: CodeUnavailable,
		prometheus.AlreadyRegisteredError{}: CodeInternal,
	} {
		require.Equal(t, code, CodeOf(err), err)
	}
}
