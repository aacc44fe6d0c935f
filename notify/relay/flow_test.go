package relay

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// endsWhenAsked is a context that ends between the first two looks at it.
type endsWhenAsked struct {
	context.Context
	asked atomic.Int64
	done  chan struct{}
}

func (c *endsWhenAsked) Err() error {
	if c.asked.Add(1) == 1 {
		close(c.done)
		return nil
	}
	return context.Canceled
}

func (c *endsWhenAsked) Done() <-chan struct{} { return c.done }

// TestAStopDuringALookFindsTheRelay checks that a relay without rows under way ends, although its context ends while it
// prepares to wait.
func TestAStopDuringALookFindsTheRelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &flow{reports: make(chan report), next: time.Now().Add(time.Second)}
		ctx := &endsWhenAsked{Context: t.Context(), done: make(chan struct{})}
		require.Empty(t, f.wait(ctx, &channelLoop{wake: make(chan struct{})}, time.Second))
	})
}
