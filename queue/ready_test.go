package queue

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// none says that lines go one by one.
func none() int { return 0 }

func TestReadyLinesTakeTurns(t *testing.T) {
	t.Parallel()
	r := newReadySet()
	for _, sale := range []string{"hot", "cold", "hot", "warm", "hot"} {
		r.add(sale) // a line that is listed keeps its turn
	}
	ctx, cancel := context.WithCancel(context.Background())
	for _, want := range []string{"hot", "cold", "warm", "hot"} {
		got, err := r.next(ctx, none)
		require.NoError(t, err)
		require.Equal(t, turn{sales: []string{want}}, got)
		if want == "hot" {
			r.add("hot") // it still has work: behind the others
		}
	}
	cancel()
	_, err := r.next(ctx, none)
	require.ErrorIs(t, err, context.Canceled)
}

func TestSmallLinesGoTogether(t *testing.T) {
	t.Parallel()
	r := newReadySet()
	most := func() int { return 3 }
	next := func() turn {
		t.Helper()
		got, err := r.next(t.Context(), most)
		require.NoError(t, err)
		return got
	}
	r.addLone("hot")
	for _, sale := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		r.add(sale)
	}
	first := next()
	require.Equal(t, turn{sales: []string{"a", "b", "c"}, lane: true}, first)
	require.Equal(t, turn{sales: []string{"hot"}}, next(), "neither kind waits for the other")
	second := next()
	require.Equal(t, turn{sales: []string{"d", "e", "f"}, lane: true}, second)
	_, ok := r.pop(most())
	require.False(t, ok, "two parties are out: the others gather")
	r.add("hot")
	require.Equal(t, []string{"hot"}, next().sales, "a line with much does not wait for them")

	r.add("a")
	r.addLone("b")
	r.done(first)
	require.Equal(t, turn{sales: []string{"g", "a"}, lane: true}, next())
	require.Equal(t, turn{sales: []string{"b"}}, next(), "it had much")
	r.done(second)
	r.add("b")
	require.Equal(t, turn{sales: []string{"b"}}, next(), "and has until its worker says otherwise")
	r.mayJoin("b")
	r.add("b")
	require.Equal(t, turn{sales: []string{"b"}, lane: true}, next())
}

// A line that is listed as small and turns out to have much changes its row, and is still listed once.
func TestListedLineBecomesLone(t *testing.T) {
	t.Parallel()
	r := newReadySet()
	r.add("a")
	r.add("b")
	r.addLone("a")
	r.addLone("a")
	got, ok := r.pop(2)
	require.True(t, ok)
	require.Equal(t, []string{"b"}, got.sales)
	got, ok = r.pop(2)
	require.True(t, ok)
	require.Equal(t, []string{"a"}, got.sales)
	_, ok = r.pop(2)
	require.False(t, ok)
}
