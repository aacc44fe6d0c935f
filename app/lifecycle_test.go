package app

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/gateway/server"
)

// TestALoopOutlivesAPanic checks that a loop goes on after a panic and ends when it is stopped.
func TestALoopOutlivesAPanic(t *testing.T) {
	t.Parallel()
	a := &App{panics: server.NewPanics(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), time.Now),
		failed: make(chan error, 1)}
	var runs atomic.Int64
	again := make(chan struct{})
	a.loop("loop", func(ctx context.Context) {
		if runs.Add(1) == 1 {
			panic("a defect")
		}
		close(again)
		<-ctx.Done()
	})
	<-again
	require.Len(t, a.undo, 1)
	require.NoError(t, a.undo[0].stop(t.Context()))
	require.Empty(t, a.failed)
}
