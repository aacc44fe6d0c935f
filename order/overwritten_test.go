package order_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/queue"
	"sluice/queue/worker"
)

// consume lets a real consumer drain the sale until nothing is in flight.
func consume(w *orders.World) {
	w.T.Helper()
	consumer, err := worker.New(worker.Options{
		Config: queue.DefaultConfig(), Pool: worker.DefaultPoolConfig(), Lines: w.Lines,
		Sales: func() []string { return []string{orders.Sale} }, Handler: w.Fulfiller,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(w.T, err)
	defer testkit.Background(w.T, consumer.Run)()
	empty := func() bool { v, err := w.Line.View(w.Ctx); return err == nil && !v.InFlight() }
	require.Eventually(w.T, empty, orders.Soon, time.Millisecond)
}

// A record that was overwritten names nobody. What its owner holds stands in the holdings too: the unit and the slot
// come back, and the owner reads that the order failed.
func TestAnOverwrittenTicketIsTheOwnersFailedOrder(t *testing.T) {
	orders.EachDatabase(t, 5, 1, func(w *orders.World) {
		before, hit, after := w.Admit("ann", 1), w.Admit("bob", 1), w.Admit("cid", 1)
		require.NoError(t, w.Redis.HSet(w.Ctx, orders.Key("orders"), hit.ID, "garbage").Err())
		consume(w)
		rows := w.Rows()
		require.Equal(t, order.Confirmed, rows[before.ID].Status)
		require.Equal(t, order.Confirmed, rows[after.ID].Status)
		row := rows[hit.ID]
		require.Equal(t, []any{order.Failed, "bob", 1, hit.Seq}, []any{row.Status, row.UserID, row.Quantity, row.Seq})
		v := w.Look(hit.ID)
		require.Equal(t, []string{order.Failed, "bob"}, []string{v.Status, v.User}, "the line has a record again")
		require.Equal(t, 1, w.News()["order.failed email"])
		audit := w.Clean()
		require.EqualValues(t, []int64{3, 3}, []int64{audit.LineStock, audit.Available}, "its unit is back on sale")
		require.Zero(t, audit.Lost)

		err := w.DeadLetters().Requeue(w.Ctx, orders.Sale, hit.ID, "olga", "")
		require.NoError(t, err, "it is a letter like any other")
		consume(w)
		require.Equal(t, order.Confirmed, w.Rows()[hit.ID].Status)
		w.Clean()
	})
}

// The same, and the line is rebuilt before a worker has come to it.
func TestAnOverwrittenTicketKeepsItsOwnerInARebuild(t *testing.T) {
	orders.EachDatabase(t, 5, 1, func(w *orders.World) {
		hit := w.Admit("bob", 1)
		require.NoError(t, w.Redis.HSet(w.Ctx, orders.Key("orders"), hit.ID, "garbage").Err())
		require.NoError(t, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
		require.NoError(t, w.Cache.Refresh(w.Ctx))
		require.EqualValues(t, 4, w.View().Stock, "its unit is its own until it has failed")
		consume(w)
		require.Equal(t, []string{order.Failed, "bob"}, []string{w.Rows()[hit.ID].Status, w.Rows()[hit.ID].UserID})
		require.Equal(t, 1, w.News()["order.failed email"])
		audit := w.Clean()
		require.EqualValues(t, []int64{5, 5, 0}, []int64{audit.LineStock, audit.Available, audit.Lost})
	})
}

// The same of a ticket of which a worker had made an order already: the order stands.
func TestAnOverwrittenTicketOfAnOrderIsThatOrder(t *testing.T) {
	orders.EachDatabase(t, 5, 1, func(w *orders.World) {
		hit := w.Admit("bob", 1)
		b := w.Claim(1)
		w.Handle(b)
		require.NoError(t, w.Redis.HSet(w.Ctx, orders.Key("orders"), hit.ID, "garbage").Err())
		w.EndLease(b)
		consume(w)
		require.Equal(t, order.Confirmed, w.Look(hit.ID).Status)
		require.NoError(t, w.Cancel(hit.ID, "bob"))
		require.EqualValues(t, 5, w.Clean().LineStock, "its unit could come back")
	})
}
