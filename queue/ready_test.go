package queue

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadyLinesTakeTurns(t *testing.T) {
	t.Parallel()
	r := newReadySet()
	for _, sale := range []string{"hot", "cold", "hot", "warm", "hot"} {
		r.add(sale) // a line that is listed keeps its turn
	}
	ctx, cancel := context.WithCancel(context.Background())
	for _, want := range []string{"hot", "cold", "warm", "hot"} {
		got, err := r.next(ctx)
		require.NoError(t, err)
		require.Equal(t, want, got)
		if want == "hot" {
			r.add("hot") // it still has work: behind the others
		}
	}
	cancel()
	_, err := r.next(ctx)
	require.ErrorIs(t, err, context.Canceled)
}
