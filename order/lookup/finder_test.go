package lookup_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

func TestManyAsksTheLineFirst(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		confirmed := w.Admit("ann", 1)
		w.Work()
		cancelled := w.Admit("eve", 1)
		require.NoError(w.T, w.Line.Cancel(w.Ctx, cancelled.ID, "eve"))
		processing := w.Admit("bob", 1)
		w.Claim(2)
		queued := []queue.Ticket{w.Admit("cid", 1), w.Admit("dan", 1)}
		ids := []string{confirmed.ID, cancelled.ID, processing.ID, queued[0].ID, queued[1].ID, "order-9999"}
		views, err := w.Finder.Many(w.Ctx, orders.Sale, ids)
		require.NoError(w.T, err)
		require.Len(w.T, views, 5)
		require.Equal(w.T, order.View{ID: queued[1].ID, SaleID: orders.Sale, User: "dan", Status: order.Queued,
			Quantity: 1, PriceCents: 9900, Currency: "CNY",
			Position: 2, AdmittedAt: queued[1].AdmittedAt}, views[queued[1].ID])
		require.EqualValues(w.T, 1, views[queued[0].ID].Position)
		require.Equal(w.T, order.Processing, views[processing.ID].Status)
		require.Zero(w.T, views[processing.ID].Position)
		require.Equal(w.T, order.Cancelled, views[cancelled.ID].Status)
		require.False(w.T, views[cancelled.ID].EndedAt.IsZero())
		require.Equal(w.T, order.Confirmed, views[confirmed.ID].Status)
		require.False(w.T, views[confirmed.ID].ConfirmedAt.IsZero())
		require.True(w.T, views[cancelled.ID].Final())
		require.True(w.T, views[confirmed.ID].Final(), "it need not be paid")

		// What the line has forgotten, the database answers, and only for its own sale.
		require.NoError(w.T, w.Redis.HDel(w.Ctx, "sluice:{sale/0}:orders", confirmed.ID).Err())
		views, err = w.Finder.Many(w.Ctx, orders.Sale, ids)
		require.NoError(w.T, err)
		require.Equal(w.T, order.Confirmed, views[confirmed.ID].Status)
		require.EqualValues(w.T, 9900, views[confirmed.ID].PriceCents)
		views, err = w.Finder.Many(w.Ctx, "other", ids)
		require.NoError(w.T, err)
		require.Empty(w.T, views)
	})
}

func TestManyWhileStoresAreAway(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Embedded(t).Addr())
	w := orders.New(t, tables.New(t, store.SQLite), proxy.Addr(), 10, 1)
	stored := w.Admit("ann", 1)
	w.Work()
	waiting := w.Admit("bob", 1)
	proxy.Cut()
	views, err := w.Finder.Many(w.Ctx, orders.Sale, []string{stored.ID, waiting.ID})
	require.True(t, redis.Unavailable(err), "%v", err)
	require.Len(t, views, 1)
	require.Equal(t, order.Confirmed, views[stored.ID].Status)

	require.NoError(t, w.DB.Close())
	views, err = w.Finder.Many(w.Ctx, orders.Sale, []string{stored.ID, waiting.ID})
	require.True(t, store.Unavailable(err), "%v", err)
	require.Empty(t, views)

	require.NoError(t, proxy.Heal())
	views, err = w.Finder.Many(w.Ctx, orders.Sale, []string{waiting.ID})
	require.NoError(t, err, "the line alone answers for what it knows")
	require.Equal(t, order.Queued, views[waiting.ID].Status)
}

func TestByID(t *testing.T) {
	orders.EachDatabase(t, 10, 1, func(w *orders.World) {
		w.OpenSale("second", 10, 1)
		stored := w.Admit("ann", 1)
		w.Work()
		waiting := w.Admit("bob", 1)
		elsewhere := w.Try("second", w.Request("ann", 1))
		require.NoError(w.T, elsewhere.Err)
		for id, want := range map[string]string{stored.ID: "sale confirmed", waiting.ID: "sale queued",
			elsewhere.Ticket.ID: "second queued"} {
			v, err := w.Finder.ByID(w.Ctx, id)
			require.NoError(w.T, err)
			require.Equal(w.T, want, v.SaleID+" "+v.Status)
			require.EqualValues(w.T, 9900, v.PriceCents)
		}
		_, err := w.Finder.ByID(w.Ctx, "order-9999")
		require.ErrorIs(w.T, err, order.ErrNotFound)
	})
}
