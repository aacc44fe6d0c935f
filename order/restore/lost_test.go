package restore_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

// lose empties Redis and loads the line anew.
func lose(w *orders.World) {
	w.T.Helper()
	require.NoError(w.T, w.Redis.FlushAll(w.Ctx).Err())
	w.CatchUp()
}

func record(w *orders.World, t queue.Ticket) (order.View, error) {
	return w.Losses.Record(w.Ctx, w.Entry().Sale, t)
}

// A loss is recorded once, however many ask at once, with the news of it; it moves no unit and survives a rebuild.
func TestALossIsRecordedOnce(t *testing.T) {
	orders.EachDatabase(t, 5, 3, func(w *orders.World) {
		lost := w.Admit("ann", 3)
		lose(w)
		before := w.Commits.Load()
		views, errs := make([]order.View, 8), make([]error, 8)
		var askers sync.WaitGroup
		for i := range views {
			askers.Go(func() { views[i], errs[i] = record(w, lost) })
		}
		askers.Wait()
		require.NoError(w.T, errors.Join(errs...))
		for _, v := range views {
			require.Equal(w.T, views[0], v)
		}
		require.Equal(w.T, order.Failed, views[0].Status)
		require.Equal(w.T, queue.ReasonLost, views[0].Reason)
		require.Equal(w.T, 3, views[0].Quantity)
		require.Equal(w.T, lost.AdmittedAt, views[0].AdmittedAt)
		require.EqualValues(w.T, before+1, w.Commits.Load())
		require.Equal(w.T, map[string]int{"order.failed stream": 1, "order.failed email": 1}, w.News())

		row := w.Rows()[lost.ID]
		require.Nil(w.T, row.Slot)
		require.Equal(w.T, 1, row.Released)
		require.Equal(w.T, w.Entry().Sale.Epoch, row.Epoch)
		require.Equal(w.T, w.View().Seq, row.Seq, "a place of its own in the line as it is now")
		require.EqualValues(w.T, 9900, row.PriceCents)
		require.EqualValues(w.T, 5, w.Clean().LineStock)
		w.Work()
		require.Equal(w.T, row, w.Rows()[lost.ID], "the worker finds it done")
		require.Equal(w.T, map[string]int{"order.failed stream": 1, "order.failed email": 1}, w.News())
		require.EqualValues(w.T, 5, w.Clean().LineStock)

		steps, _ := w.Steps(lost.ID)
		require.Equal(w.T, []string{"admitted", "failed"}, steps[:2])
		_, err := record(w, queue.Ticket{ID: lost.ID, User: "bob", Units: 1})
		require.ErrorIs(w.T, err, order.ErrNotFound)
		lose(w)
		again, err := record(w, lost)
		require.NoError(w.T, err)
		require.Equal(w.T, order.Failed, again.Status)
		require.Equal(w.T, order.Failed, w.Look(lost.ID).Status)
		require.EqualValues(w.T, 5, w.Clean().LineStock)
	})
}

// What the line or the database knows is not lost, in whatever state it is.
func TestWhatAStoreKnowsIsNotLost(t *testing.T) {
	orders.EachDatabase(t, 9, 1, func(w *orders.World) {
		waiting := w.Admit("ann", 1)
		v, err := record(w, waiting)
		require.NoError(w.T, err)
		require.Equal(w.T, order.Queued, v.Status)
		_, err = record(w, queue.Ticket{ID: waiting.ID, User: "bob"})
		require.ErrorIs(w.T, err, order.ErrNotFound)
		w.Work()
		confirmed := waiting
		require.NoError(w.T, w.Redis.HDel(w.Ctx, "sluice:{sale/0}:orders", confirmed.ID).Err())
		v, err = record(w, confirmed)
		require.NoError(w.T, err)
		require.Equal(w.T, order.Confirmed, v.Status)
		_, err = record(w, queue.Ticket{ID: confirmed.ID, User: "bob"})
		require.ErrorIs(w.T, err, order.ErrNotFound)
		require.Equal(w.T, map[string]int{"confirmed": 1}, w.Count())
		require.Equal(w.T, map[string]int{"order.confirmed stream": 1, "order.confirmed email": 1}, w.News())
	})
}

// A ticket turns up after its loss was recorded: its order stays ended, and its unit returns.
func TestATicketThatTurnsUpGivesItsUnitBack(t *testing.T) {
	orders.EachDatabase(t, 2, 1, func(w *orders.World) {
		lost := w.Admit("ann", 1)
		lose(w)
		_, err := record(w, lost)
		require.NoError(w.T, err)
		v, err := w.Finder.Readmit(w.Ctx, w.Entry(), lost)
		require.NoError(w.T, err)
		require.Equal(w.T, order.Failed, v.Status, "a receipt does not bring it back")
		require.NoError(w.T, w.Redis.Del(w.Ctx, "sluice:{sale/0}:orders", "sluice:{sale/0}:wait").Err())
		v, err = w.Finder.Readmit(w.Ctx, w.Entry(), lost)
		require.NoError(w.T, err)
		require.Equal(w.T, order.Queued, v.Status, "the line has forgotten again")
		require.EqualValues(w.T, 1, w.View().Stock)
		w.Work()
		require.Equal(w.T, map[string]int{"failed": 1}, w.Count())
		require.Equal(w.T, queue.ReasonLost, w.Look(lost.ID).Reason)
		require.EqualValues(w.T, 2, w.View().Stock)
		w.Admit("ann", 1)
		w.Work()
		require.Equal(w.T, map[string]int{"failed": 1, "confirmed": 1}, w.Count())
		require.EqualValues(w.T, 1, w.View().Stock)
	})
}

// Nothing is recorded on the word of a line that is not there, closed, of another epoch or not verified.
func TestNoLossIsRecordedOnTheWordOfALineThatIsNotReady(t *testing.T) {
	orders.EachDatabase(t, 5, 1, func(w *orders.World) {
		lost := w.Admit("ann", 1)
		sale := w.Entry().Sale
		notReady := func() {
			w.T.Helper()
			_, err := w.Losses.Record(w.Ctx, sale, lost)
			require.ErrorIs(w.T, err, queue.ErrNotReady)
			require.Empty(w.T, w.Rows())
			require.Empty(w.T, w.News())
		}
		require.NoError(w.T, w.Redis.FlushAll(w.Ctx).Err())
		notReady()
		w.CatchUp()
		notReady()
		sale = w.Entry().Sale
		meta := "sluice:{sale/0}:meta"
		require.NoError(w.T, w.Redis.HSet(w.Ctx, meta, "gate", 1).Err())
		notReady()
		require.NoError(w.T, w.Redis.HDel(w.Ctx, meta, "gate").Err())
		require.NoError(w.T, w.Redis.HSet(w.Ctx, meta, "run", "another server").Err())
		notReady()
		w.CatchUp()
		_, err := record(w, lost)
		require.NoError(w.T, err)
		require.Len(w.T, w.Rows(), 1)
	})
}

// A sale's line is dropped an hour after its end; eight days later nobody can say any more what was lost.
func TestLossesAfterTheSale(t *testing.T) {
	orders.EachDatabase(t, 5, 1, func(w *orders.World) {
		lost, late := w.Admit("ann", 1), w.Admit("bob", 1)
		require.NoError(w.T, w.Redis.FlushAll(w.Ctx).Err())
		ended := func(ago time.Duration) {
			end := time.Now().Add(-ago).UnixMilli()
			w.Exec("UPDATE sales SET starts_at = ?, ends_at = ?", end-1000, end)
		}
		ended(59 * time.Minute)
		_, err := record(w, lost)
		require.ErrorIs(w.T, err, queue.ErrNotReady)
		require.NoError(w.T, w.Redis.HSet(w.Ctx, "sluice:{sale/0}:meta", "epoch", 99).Err())
		ended(61 * time.Minute)
		_, err = record(w, lost)
		require.ErrorIs(w.T, err, queue.ErrNotReady, "there is still a line, which is not the one we know")
		require.NoError(w.T, w.Redis.Del(w.Ctx, "sluice:{sale/0}:meta").Err())
		ended(61 * time.Minute)
		lost.AdmittedAt = time.Time{}
		v, err := record(w, lost)
		require.NoError(w.T, err)
		require.Equal(w.T, v.EndedAt, v.AdmittedAt, "it is not known: it was found missing now")
		ended(7*24*time.Hour + 61*time.Minute)
		_, err = record(w, late)
		require.ErrorIs(w.T, err, order.ErrNotFound)
		require.Len(w.T, w.Rows(), 1)
	})
}

func TestNoLossIsRecordedWhileAStoreIsAway(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Embedded(t).Addr())
	w := orders.New(t, tables.New(t, store.SQLite), proxy.Addr(), 10, 1)
	lost := w.Admit("ann", 1)
	lose(w)
	sale := w.Entry().Sale
	proxy.Cut()
	_, err := w.Losses.Record(w.Ctx, sale, lost)
	require.True(t, redis.Unavailable(err), "%v", err)
	require.NoError(t, proxy.Heal())
	require.Empty(t, w.Rows())
	require.NoError(t, w.DB.Close())
	_, err = w.Losses.Record(w.Ctx, sale, lost)
	require.True(t, store.Unavailable(err), "%v", err)
}
