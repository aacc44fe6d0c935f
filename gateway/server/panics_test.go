package server

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// TestPanicsRunAgain checks that a function runs again after a panic, until its context ends.
func TestPanicsRunAgain(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	p := NewPanics(quietLog(), reg, time.Now)
	require.NotPanics(t, func() { NewPanics(quietLog(), reg, time.Now) }, "one counter for all")
	runs := 0
	p.Run(t.Context(), "loop", func(context.Context) {
		if runs++; runs == 1 {
			panic("a defect")
		}
	})
	require.Equal(t, 2, runs)
	ctx, cancel := context.WithCancel(t.Context())
	p.Run(ctx, "loop", func(context.Context) {
		cancel()
		panic("a defect")
	})
	require.EqualValues(t, 2, testutil.ToFloat64(p.total.WithLabelValues("loop")))
}

// TestPanicsAreLoggedNowAndThen checks that each kind of panic is logged with its stack, at a bounded rate.
func TestPanicsAreLoggedNowAndThen(t *testing.T) {
	t.Parallel()
	var logs logBuffer
	now := time.UnixMilli(1_000_000)
	p := NewPanics(slog.New(slog.NewJSONHandler(&logs, nil)), prometheus.NewRegistry(), func() time.Time { return now })
	crash := func(part string) {
		defer p.Catch(part)
		panic("a defect")
	}
	for range 100 {
		crash("one")
	}
	crash("two")
	now = now.Add(panicEvery)
	crash("one")
	lines := logs.lines(t)
	require.Len(t, lines, 3)
	require.Contains(t, lines[0]["stack"], "TestPanicsAreLoggedNowAndThen")
	require.Equal(t, "two", lines[1]["in"])
	require.EqualValues(t, 99, lines[2]["others_since"])
}
