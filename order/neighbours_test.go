package order_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/order"
	"sluice/queue/worker"
)

// Each test here puts something broken beside what is well, and looks at what is well.

// breakLine gives a key of a sale's line a type that nothing expects.
func (w *world) breakLine(sale, name string) {
	w.t.Helper()
	key := "sluice:{" + sale + "/0}:" + name
	require.NoError(w.t, w.rdb.Del(w.ctx, key).Err())
	require.NoError(w.t, w.rdb.Set(w.ctx, key, "of a wrong type", 0).Err())
}

func TestALineThatCannotBeReadHidesNoOtherOrder(t *testing.T) {
	eachDatabase(t, 10, 5, func(w *world) {
		w.openSale("a-broken", 10, 1)
		w.openSale("z-broken", 10, 1)
		stored := w.admit("ann", 1)
		w.work()
		waiting := w.admit("ann", 1)
		for _, sale := range []string{"a-broken", "z-broken"} {
			for _, name := range []string{"holders", "orders", "wait"} {
				w.breakLine(sale, name)
			}
		}
		for range 2 {
			page, err := w.finder.ListByUser(w.ctx, "ann", nil, 10)
			require.NoError(w.t, err)
			require.Len(w.t, page.Orders, 2)
			require.Equal(w.t, []string{"a-broken", "z-broken"}, page.Unread, "what is left out is said")
			for id, status := range map[string]string{stored.ID: order.Confirmed, waiting.ID: order.Queued} {
				v, err := w.finder.ByID(w.ctx, id)
				require.NoError(w.t, err)
				require.Equal(w.t, status, v.Status)
			}
			_, err = w.finder.ByID(w.ctx, "order-9999")
			require.Error(w.t, err)
			require.NotErrorIs(w.t, err, order.ErrNotFound, "it may be in a line that cannot be read")
		}
	})
}

// What the database knows of an order is told also when its line cannot be asked.
func TestATimelineWithoutItsLine(t *testing.T) {
	eachDatabase(t, 10, 2, func(w *world) {
		one := w.admit("ann", 1)
		w.work()
		w.breakLine(theSale, "steps:"+one.ID)
		timelines := order.NewTimelines(w.db, w.lines, w.finder)
		told, page, err := timelines.ByUser(w.ctx, "ann", nil, 10)
		require.NoError(w.t, err)
		require.Len(w.t, told, 1)
		require.Nil(w.t, page.Next)
		var steps []string
		for _, e := range told[0].Events {
			steps = append(steps, e.Step)
		}
		require.Contains(w.t, steps, "admitted")
		require.Contains(w.t, steps, order.Confirmed)
		require.Contains(w.t, steps, "steps not read")
	})
}

// A sale without a row is that line's fault, and no store's.
func TestASaleWithoutARowIsOfItsLine(t *testing.T) {
	w := onSQLite(t, 5, 1)
	w.admit("ann", 1)
	b := w.claim(1)
	b.Sale = "nowhere"
	_, err := w.fulfiller.Handle(w.ctx, b)
	require.ErrorIs(t, err, worker.ErrOfLine)
	require.NoError(t, w.db.Close())
	_, err = w.fulfiller.Handle(w.ctx, b)
	require.NotErrorIs(t, err, worker.ErrOfLine)
}
