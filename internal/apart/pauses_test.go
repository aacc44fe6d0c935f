package apart

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAPauseDoublesUntilASuccessEndsIt(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	p := NewPauses(func() time.Time { return now }, time.Second, 3*time.Second)
	require.Zero(t, p.Left("a"))
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		p.Note("a", errors.New("it failed"))
		require.Equal(t, want, p.Left("a"))
	}
	now = now.Add(time.Second)
	require.Equal(t, 2*time.Second, p.Left("a"))
	require.Zero(t, p.Left("b"), "another key is not paused")
	p.Note("a", nil)
	require.Zero(t, p.Left("a"))
}
