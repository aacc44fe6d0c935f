package lookup_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/order/lookup"
	"sluice/queue"
)

// pages walks a list page by page; between is called before each next page.
func pages(t testing.TB, list func(after *lookup.Cursor) ([]order.View, *lookup.Cursor, error), limit int,
	between func()) []string {
	t.Helper()
	var ids []string
	var after *lookup.Cursor
	for {
		views, next, err := list(after)
		require.NoError(t, err)
		for _, v := range views {
			ids = append(ids, v.ID)
		}
		if next == nil {
			require.LessOrEqual(t, len(views), limit)
			return ids
		}
		require.Len(t, views, limit)
		parsed, ok := lookup.ParseCursor(next.String())
		require.True(t, ok, next.String())
		require.Equal(t, *next, parsed)
		after = &parsed
		between()
	}
}

func TestListByUser(t *testing.T) {
	orders.EachDatabase(t, 1000, 100, func(w *orders.World) {
		w.OpenSale("second", 1000, 100)
		var tickets []queue.Ticket
		for n := range 37 {
			sale := []string{orders.Sale, "second"}[n%2]
			a := w.Try(sale, w.Request("ann", 1))
			require.NoError(w.T, a.Err)
			tickets = append(tickets, a.Ticket)
			if n%5 == 0 {
				require.NoError(w.T, w.Try(sale, w.Request("bob", 1)).Err)
			}
			if n%7 == 3 {
				w.Work() // those of one sale so far: stored and waiting orders interleave
			}
		}
		slices.SortFunc(tickets, func(a, b queue.Ticket) int {
			if c := b.AdmittedAt.Compare(a.AdmittedAt); c != 0 {
				return c
			}
			return strings.Compare(b.ID, a.ID)
		})
		var want []string
		for _, t := range tickets {
			want = append(want, t.ID)
		}
		for _, limit := range []int{1, 4, 36, 37, 38} {
			list := func(after *lookup.Cursor) ([]order.View, *lookup.Cursor, error) {
				page, err := w.Finder.ListByUser(w.Ctx, "ann", after, limit)
				return page.Orders, page.Next, err
			}
			require.Equal(w.T, want, pages(w.T, list, limit, func() {}))
		}
		// Orders that leave the line between two pages neither vanish nor come twice.
		list := func(after *lookup.Cursor) ([]order.View, *lookup.Cursor, error) {
			page, err := w.Finder.ListByUser(w.Ctx, "ann", after, 5)
			return page.Orders, page.Next, err
		}
		require.Equal(w.T, want, pages(w.T, list, 5, func() {
			b := w.Claim(3)
			if len(b.Tickets) > 0 {
				w.Settle(b, w.Handle(b))
			}
		}))
		page, err := w.Finder.ListByUser(w.Ctx, "nobody", nil, 5)
		require.NoError(w.T, err)
		require.Equal(w.T, lookup.Page{Orders: []order.View{}}, page)
	})
}

// A worker settles while the owner reads: the order is in one of the two
// stores at any moment and so must be in every list.
func TestListByUserMissesNothingThatMoves(t *testing.T) {
	w := orders.OnSQLite(t, 1000, 1000)
	done := make(chan struct{})
	const many = 80
	for range many {
		w.Admit("ann", 1)
	}
	go func() {
		defer close(done)
		for range many {
			b, err := w.Line.Claim(w.Ctx, fmt.Sprintf("batch-%d", rand.Int64()), 1, orders.Lease)
			if err != nil || len(b.Tickets) == 0 {
				return
			}
			outcomes, err := w.Fulfiller.Handle(w.Ctx, b)
			if err != nil || w.Line.Settle(w.Ctx, b, outcomes) != nil {
				return
			}
		}
	}()
	for moving := true; moving; {
		select {
		case <-done:
			moving = false
		default:
		}
		page, err := w.Finder.ListByUser(w.Ctx, "ann", nil, 1000)
		require.NoError(t, err)
		require.Len(t, page.Orders, many)
	}
	require.Equal(t, map[string]int{"confirmed": many}, w.Count())
}

func TestListBySale(t *testing.T) {
	orders.EachDatabase(t, 1000, 1, func(w *orders.World) {
		w.AdmitMany(23)
		w.Work()
		w.AdmitMany(2) // still in line: not the database's
		list := func(after *lookup.Cursor) ([]order.View, *lookup.Cursor, error) {
			return w.Finder.ListBySale(w.Ctx, orders.Sale, after, 5)
		}
		got := pages(w.T, list, 5, func() {})
		require.Len(w.T, got, 23)
		require.Len(w.T, slices.Compact(slices.Sorted(slices.Values(got))), 23)
		views, next, err := w.Finder.ListBySale(w.Ctx, "other", nil, 5)
		require.NoError(w.T, err)
		require.Empty(w.T, views)
		require.Nil(w.T, next)
	})
}

func FuzzParseCursor(f *testing.F) {
	for _, seed := range []string{"", "_", "1_", "_a", "1_a", "-1_a", "+1_a", "9223372036854775807_a",
		"9223372036854775808_a", "1_a_b", "1_a\x00b", "1_\xff", "1_" + strings.Repeat("x", 37)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := lookup.ParseCursor(text)
		if !ok {
			return
		}
		require.GreaterOrEqual(t, c.AdmittedAt, int64(0))
		require.NotEmpty(t, c.ID)
		require.LessOrEqual(t, len(c.ID), 36)
		for _, r := range c.ID {
			require.True(t, r > ' ' && r < 0x7f, "%q would be refused by a database", c.ID)
		}
		again, ok := lookup.ParseCursor(c.String())
		require.True(t, ok)
		require.Equal(t, c, again)
	})
}

func TestCursorFromTheWorldIsSafe(t *testing.T) {
	orders.EachDatabase(t, 1, 1, func(w *orders.World) {
		for _, text := range []string{"0_a", "9223372036854775807_zzzz", "5_a'b", "5_a%b"} {
			c, ok := lookup.ParseCursor(text)
			require.True(w.T, ok, text)
			_, err := w.Finder.ListByUser(w.Ctx, "ann", &c, 5)
			require.NoError(w.T, err, text)
		}
		for _, text := range []string{"", "1", "_a", "x_a", "-1_a", "1_", "1_a\x00", "1_\xff", "1_" +
			strings.Repeat("x", 37)} {
			_, ok := lookup.ParseCursor(text)
			require.False(w.T, ok, "%q", text)
		}
	})
}
