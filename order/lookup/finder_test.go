package order_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

func TestManyAsksTheLineFirst(t *testing.T) {
	eachDatabase(t, 100, 1, func(w *world) {
		confirmed := w.admit("ann", 1)
		w.work()
		cancelled := w.admit("eve", 1)
		require.NoError(w.t, w.line.Cancel(w.ctx, cancelled.ID, "eve"))
		processing := w.admit("bob", 1)
		w.claim(2)
		queued := []queue.Ticket{w.admit("cid", 1), w.admit("dan", 1)}
		ids := []string{confirmed.ID, cancelled.ID, processing.ID, queued[0].ID, queued[1].ID, "order-9999"}
		views, err := w.finder.Many(w.ctx, theSale, ids)
		require.NoError(w.t, err)
		require.Len(w.t, views, 5)
		require.Equal(w.t, order.View{ID: queued[1].ID, SaleID: theSale, User: "dan", Status: order.Queued,
			Quantity: 1, PriceCents: 9900, Currency: "CNY",
			Position: 2, AdmittedAt: queued[1].AdmittedAt}, views[queued[1].ID])
		require.EqualValues(w.t, 1, views[queued[0].ID].Position)
		require.Equal(w.t, order.Processing, views[processing.ID].Status)
		require.Zero(w.t, views[processing.ID].Position)
		require.Equal(w.t, order.Cancelled, views[cancelled.ID].Status)
		require.False(w.t, views[cancelled.ID].EndedAt.IsZero())
		require.Equal(w.t, order.Confirmed, views[confirmed.ID].Status)
		require.False(w.t, views[confirmed.ID].ConfirmedAt.IsZero())
		require.True(w.t, views[cancelled.ID].Final())
		require.True(w.t, views[confirmed.ID].Final(), "it need not be paid")

		// What the line has forgotten, the database answers, and only for its own sale.
		require.NoError(w.t, w.rdb.HDel(w.ctx, "sluice:{sale/0}:orders", confirmed.ID).Err())
		views, err = w.finder.Many(w.ctx, theSale, ids)
		require.NoError(w.t, err)
		require.Equal(w.t, order.Confirmed, views[confirmed.ID].Status)
		require.EqualValues(w.t, 9900, views[confirmed.ID].PriceCents)
		views, err = w.finder.Many(w.ctx, "other", ids)
		require.NoError(w.t, err)
		require.Empty(w.t, views)
	})
}

func TestManyWhileStoresAreAway(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Embedded(t).Addr())
	w := newWorld(t, tables.New(t, store.SQLite), proxy.Addr(), 10, 1)
	stored := w.admit("ann", 1)
	w.work()
	waiting := w.admit("bob", 1)
	proxy.Cut()
	views, err := w.finder.Many(w.ctx, theSale, []string{stored.ID, waiting.ID})
	require.True(t, redis.Unavailable(err), "%v", err)
	require.Len(t, views, 1)
	require.Equal(t, order.Confirmed, views[stored.ID].Status)

	require.NoError(t, w.db.Close())
	views, err = w.finder.Many(w.ctx, theSale, []string{stored.ID, waiting.ID})
	require.True(t, store.Unavailable(err), "%v", err)
	require.Empty(t, views)

	require.NoError(t, proxy.Heal())
	views, err = w.finder.Many(w.ctx, theSale, []string{waiting.ID})
	require.NoError(t, err, "the line alone answers for what it knows")
	require.Equal(t, order.Queued, views[waiting.ID].Status)
}

func TestByID(t *testing.T) {
	eachDatabase(t, 10, 1, func(w *world) {
		w.openSale("second", 10, 1)
		stored := w.admit("ann", 1)
		w.work()
		waiting := w.admit("bob", 1)
		elsewhere := w.try("second", w.request("ann", 1))
		require.NoError(w.t, elsewhere.Err)
		for id, want := range map[string]string{stored.ID: "sale confirmed", waiting.ID: "sale queued",
			elsewhere.Ticket.ID: "second queued"} {
			v, err := w.finder.ByID(w.ctx, id)
			require.NoError(w.t, err)
			require.Equal(w.t, want, v.SaleID+" "+v.Status)
			require.EqualValues(w.t, 9900, v.PriceCents)
		}
		_, err := w.finder.ByID(w.ctx, "order-9999")
		require.ErrorIs(w.t, err, order.ErrNotFound)
	})
}

// pages walks a list page by page; between is called before each next page.
func pages(t testing.TB, list func(after *order.Cursor) ([]order.View, *order.Cursor, error), limit int,
	between func()) []string {
	t.Helper()
	var ids []string
	var after *order.Cursor
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
		parsed, ok := order.ParseCursor(next.String())
		require.True(t, ok, next.String())
		require.Equal(t, *next, parsed)
		after = &parsed
		between()
	}
}

func TestListByUser(t *testing.T) {
	eachDatabase(t, 1000, 100, func(w *world) {
		w.openSale("second", 1000, 100)
		var tickets []queue.Ticket
		for n := range 37 {
			sale := []string{theSale, "second"}[n%2]
			a := w.try(sale, w.request("ann", 1))
			require.NoError(w.t, a.Err)
			tickets = append(tickets, a.Ticket)
			if n%5 == 0 {
				require.NoError(w.t, w.try(sale, w.request("bob", 1)).Err)
			}
			if n%7 == 3 {
				w.work() // those of one sale so far: stored and waiting orders interleave
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
			list := func(after *order.Cursor) ([]order.View, *order.Cursor, error) {
				page, err := w.finder.ListByUser(w.ctx, "ann", after, limit)
				return page.Orders, page.Next, err
			}
			require.Equal(w.t, want, pages(w.t, list, limit, func() {}))
		}
		// Orders that leave the line between two pages neither vanish nor come twice.
		list := func(after *order.Cursor) ([]order.View, *order.Cursor, error) {
			page, err := w.finder.ListByUser(w.ctx, "ann", after, 5)
			return page.Orders, page.Next, err
		}
		require.Equal(w.t, want, pages(w.t, list, 5, func() {
			b := w.claim(3)
			if len(b.Tickets) > 0 {
				w.settle(b, w.handle(b))
			}
		}))
		page, err := w.finder.ListByUser(w.ctx, "nobody", nil, 5)
		require.NoError(w.t, err)
		require.Equal(w.t, order.Page{Orders: []order.View{}}, page)
	})
}

// A worker settles while the owner reads: the order is in one of the two
// stores at any moment and so must be in every list.
func TestListByUserMissesNothingThatMoves(t *testing.T) {
	w := onSQLite(t, 1000, 1000)
	done := make(chan struct{})
	const orders = 80
	for range orders {
		w.admit("ann", 1)
	}
	go func() {
		defer close(done)
		for range orders {
			b, err := w.line.Claim(w.ctx, fmt.Sprintf("batch-%d", rand.Int64()), 1, lease)
			if err != nil || len(b.Tickets) == 0 {
				return
			}
			outcomes, err := w.fulfiller.Handle(w.ctx, b)
			if err != nil || w.line.Settle(w.ctx, b, outcomes) != nil {
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
		page, err := w.finder.ListByUser(w.ctx, "ann", nil, 1000)
		require.NoError(t, err)
		require.Len(t, page.Orders, orders)
	}
	require.Equal(t, map[string]int{"confirmed": orders}, w.count())
}

func TestListBySale(t *testing.T) {
	eachDatabase(t, 1000, 1, func(w *world) {
		w.admitMany(23)
		w.work()
		w.admitMany(2) // still in line: not the database's
		list := func(after *order.Cursor) ([]order.View, *order.Cursor, error) {
			return w.finder.ListBySale(w.ctx, theSale, after, 5)
		}
		got := pages(w.t, list, 5, func() {})
		require.Len(w.t, got, 23)
		require.Len(w.t, slices.Compact(slices.Sorted(slices.Values(got))), 23)
		views, next, err := w.finder.ListBySale(w.ctx, "other", nil, 5)
		require.NoError(w.t, err)
		require.Empty(w.t, views)
		require.Nil(w.t, next)
	})
}

func FuzzParseCursor(f *testing.F) {
	for _, seed := range []string{"", "_", "1_", "_a", "1_a", "-1_a", "+1_a", "9223372036854775807_a",
		"9223372036854775808_a", "1_a_b", "1_a\x00b", "1_\xff", "1_" + strings.Repeat("x", 37)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := order.ParseCursor(text)
		if !ok {
			return
		}
		require.GreaterOrEqual(t, c.AdmittedAt, int64(0))
		require.NotEmpty(t, c.ID)
		require.LessOrEqual(t, len(c.ID), 36)
		for _, r := range c.ID {
			require.True(t, r > ' ' && r < 0x7f, "%q would be refused by a database", c.ID)
		}
		again, ok := order.ParseCursor(c.String())
		require.True(t, ok)
		require.Equal(t, c, again)
	})
}

func TestCursorFromTheWorldIsSafe(t *testing.T) {
	eachDatabase(t, 1, 1, func(w *world) {
		for _, text := range []string{"0_a", "9223372036854775807_zzzz", "5_a'b", "5_a%b"} {
			c, ok := order.ParseCursor(text)
			require.True(w.t, ok, text)
			_, err := w.finder.ListByUser(w.ctx, "ann", &c, 5)
			require.NoError(w.t, err, text)
		}
		for _, text := range []string{"", "1", "_a", "x_a", "-1_a", "1_", "1_a\x00", "1_\xff", "1_" +
			strings.Repeat("x", 37)} {
			_, ok := order.ParseCursor(text)
			require.False(w.t, ok, "%q", text)
		}
	})
}
