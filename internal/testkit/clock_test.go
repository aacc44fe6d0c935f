package testkit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClockMovesOnlyWhenTold(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := NewClock(start)
	require.Equal(t, start, clock.Now())
	require.Equal(t, start.Add(time.Hour), clock.Advance(time.Hour))
	require.Equal(t, start.Add(time.Hour), clock.Now())
	require.Equal(t, start, clock.Advance(-time.Hour))
}
