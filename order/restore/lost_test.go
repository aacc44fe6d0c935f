package order_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

// lose empties Redis and loads the line anew.
func (w *world) lose() {
	w.t.Helper()
	require.NoError(w.t, w.rdb.FlushAll(w.ctx).Err())
	w.keep()
}

func (w *world) record(t queue.Ticket) (order.View, error) {
	return w.losses.Record(w.ctx, w.entry().Sale, t)
}

// A loss is recorded once, however many ask at once, with the news of it; it moves no unit and survives a rebuild.
func TestALossIsRecordedOnce(t *testing.T) {
	eachDatabase(t, 5, 3, func(w *world) {
		lost := w.admit("ann", 3)
		w.lose()
		told := w.told.Load()
		views, errs := make([]order.View, 8), make([]error, 8)
		var askers sync.WaitGroup
		for i := range views {
			askers.Go(func() { views[i], errs[i] = w.record(lost) })
		}
		askers.Wait()
		require.NoError(w.t, errors.Join(errs...))
		for _, v := range views {
			require.Equal(w.t, views[0], v)
		}
		require.Equal(w.t, order.Failed, views[0].Status)
		require.Equal(w.t, queue.ReasonLost, views[0].Reason)
		require.Equal(w.t, 3, views[0].Quantity)
		require.Equal(w.t, lost.AdmittedAt, views[0].AdmittedAt)
		require.EqualValues(w.t, told+1, w.told.Load())
		require.Equal(w.t, map[string]int{"order.failed stream": 1, "order.failed email": 1}, w.news())

		row := w.rows()[lost.ID]
		require.Nil(w.t, row.Slot)
		require.Equal(w.t, 1, row.Released)
		require.Equal(w.t, w.entry().Sale.Epoch, row.Epoch)
		require.Equal(w.t, w.view().Seq, row.Seq, "a place of its own in the line as it is now")
		require.EqualValues(w.t, 9900, row.PriceCents)
		require.EqualValues(w.t, 5, w.clean().LineStock)
		w.work()
		require.Equal(w.t, row, w.rows()[lost.ID], "the worker finds it done")
		require.Equal(w.t, map[string]int{"order.failed stream": 1, "order.failed email": 1}, w.news())
		require.EqualValues(w.t, 5, w.clean().LineStock)

		steps, _ := w.steps(lost.ID)
		require.Equal(w.t, []string{"admitted", "failed"}, steps[:2])
		_, err := w.record(queue.Ticket{ID: lost.ID, User: "bob", Units: 1})
		require.ErrorIs(w.t, err, order.ErrNotFound)
		w.lose()
		again, err := w.record(lost)
		require.NoError(w.t, err)
		require.Equal(w.t, order.Failed, again.Status)
		require.Equal(w.t, order.Failed, w.look(lost.ID).Status)
		require.EqualValues(w.t, 5, w.clean().LineStock)
	})
}

// What the line or the database knows is not lost, in whatever state it is.
func TestWhatAStoreKnowsIsNotLost(t *testing.T) {
	eachDatabase(t, 9, 1, func(w *world) {
		waiting := w.admit("ann", 1)
		v, err := w.record(waiting)
		require.NoError(w.t, err)
		require.Equal(w.t, order.Queued, v.Status)
		_, err = w.record(queue.Ticket{ID: waiting.ID, User: "bob"})
		require.ErrorIs(w.t, err, order.ErrNotFound)
		w.work()
		confirmed := waiting
		require.NoError(w.t, w.rdb.HDel(w.ctx, "sluice:{sale/0}:orders", confirmed.ID).Err())
		v, err = w.record(confirmed)
		require.NoError(w.t, err)
		require.Equal(w.t, order.Confirmed, v.Status)
		_, err = w.record(queue.Ticket{ID: confirmed.ID, User: "bob"})
		require.ErrorIs(w.t, err, order.ErrNotFound)
		require.Equal(w.t, map[string]int{"confirmed": 1}, w.count())
		require.Equal(w.t, map[string]int{"order.confirmed stream": 1, "order.confirmed email": 1}, w.news())
	})
}

// A ticket turns up after its loss was told: its order stays ended, and its unit returns.
func TestATicketThatTurnsUpGivesItsUnitBack(t *testing.T) {
	eachDatabase(t, 2, 1, func(w *world) {
		lost := w.admit("ann", 1)
		w.lose()
		_, err := w.record(lost)
		require.NoError(w.t, err)
		v, err := w.finder.Readmit(w.ctx, w.entry(), lost)
		require.NoError(w.t, err)
		require.Equal(w.t, order.Failed, v.Status, "a receipt does not bring it back")
		require.NoError(w.t, w.rdb.Del(w.ctx, "sluice:{sale/0}:orders", "sluice:{sale/0}:wait").Err())
		v, err = w.finder.Readmit(w.ctx, w.entry(), lost)
		require.NoError(w.t, err)
		require.Equal(w.t, order.Queued, v.Status, "the line has forgotten again")
		require.EqualValues(w.t, 1, w.view().Stock)
		w.work()
		require.Equal(w.t, map[string]int{"failed": 1}, w.count())
		require.Equal(w.t, queue.ReasonLost, w.look(lost.ID).Reason)
		require.EqualValues(w.t, 2, w.view().Stock)
		w.admit("ann", 1)
		w.work()
		require.Equal(w.t, map[string]int{"failed": 1, "confirmed": 1}, w.count())
		require.EqualValues(w.t, 1, w.view().Stock)
	})
}

// Nothing is recorded on the word of a line that is not there, closed, of another epoch or not verified.
func TestNoLossIsRecordedOnTheWordOfALineThatIsNotReady(t *testing.T) {
	eachDatabase(t, 5, 1, func(w *world) {
		lost := w.admit("ann", 1)
		sale := w.entry().Sale
		notReady := func() {
			w.t.Helper()
			_, err := w.losses.Record(w.ctx, sale, lost)
			require.ErrorIs(w.t, err, queue.ErrNotReady)
			require.Empty(w.t, w.rows())
			require.Empty(w.t, w.news())
		}
		require.NoError(w.t, w.rdb.FlushAll(w.ctx).Err())
		notReady()
		w.keep()
		notReady()
		sale = w.entry().Sale
		meta := "sluice:{sale/0}:meta"
		require.NoError(w.t, w.rdb.HSet(w.ctx, meta, "gate", 1).Err())
		notReady()
		require.NoError(w.t, w.rdb.HDel(w.ctx, meta, "gate").Err())
		require.NoError(w.t, w.rdb.HSet(w.ctx, meta, "run", "another server").Err())
		notReady()
		w.keep()
		_, err := w.record(lost)
		require.NoError(w.t, err)
		require.Len(w.t, w.rows(), 1)
	})
}

// A sale's line is dropped an hour after its end; eight days later nobody can say any more what was lost.
func TestLossesAfterTheSale(t *testing.T) {
	eachDatabase(t, 5, 1, func(w *world) {
		lost, late := w.admit("ann", 1), w.admit("bob", 1)
		require.NoError(w.t, w.rdb.FlushAll(w.ctx).Err())
		ended := func(ago time.Duration) {
			end := time.Now().Add(-ago).UnixMilli()
			w.exec("UPDATE sales SET starts_at = ?, ends_at = ?", end-1000, end)
		}
		ended(59 * time.Minute)
		_, err := w.record(lost)
		require.ErrorIs(w.t, err, queue.ErrNotReady)
		require.NoError(w.t, w.rdb.HSet(w.ctx, "sluice:{sale/0}:meta", "epoch", 99).Err())
		ended(61 * time.Minute)
		_, err = w.record(lost)
		require.ErrorIs(w.t, err, queue.ErrNotReady, "there is still a line, which is not the one we know")
		require.NoError(w.t, w.rdb.Del(w.ctx, "sluice:{sale/0}:meta").Err())
		ended(61 * time.Minute)
		lost.AdmittedAt = time.Time{}
		v, err := w.record(lost)
		require.NoError(w.t, err)
		require.Equal(w.t, v.EndedAt, v.AdmittedAt, "it is not known: it was found missing now")
		ended(7*24*time.Hour + 61*time.Minute)
		_, err = w.record(late)
		require.ErrorIs(w.t, err, order.ErrNotFound)
		require.Len(w.t, w.rows(), 1)
	})
}

func TestNoLossIsRecordedWhileAStoreIsAway(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Embedded(t).Addr())
	w := newWorld(t, tables.New(t, store.SQLite), proxy.Addr(), 10, 1)
	lost := w.admit("ann", 1)
	w.lose()
	sale := w.entry().Sale
	proxy.Cut()
	_, err := w.losses.Record(w.ctx, sale, lost)
	require.True(t, redis.Unavailable(err), "%v", err)
	require.NoError(t, proxy.Heal())
	require.Empty(t, w.rows())
	require.NoError(t, w.db.Close())
	_, err = w.losses.Record(w.ctx, sale, lost)
	require.True(t, store.Unavailable(err), "%v", err)
}
