package deadletter_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/invalid"
	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/order/deadletter"
	"sluice/queue"
)

// Seven letters and five units: calls of three take the oldest first, and what is refused is passed over by the next.
func TestManyDeadLettersLiveAgain(t *testing.T) {
	w := orders.OnSQLite(t, 5, 1)
	dead := w.DeadLetters()
	var ids []string
	for n := range 7 {
		ids = append(ids, w.Bury(fmt.Sprint("shopper-", n), 1).ID)
	}
	w.Admit("shopper-0", 1) // who ordered again meanwhile: the oldest letter is refused
	change := deadletter.Change{Sale: orders.Sale, Actor: "olga", Reason: "mended", Limit: 3}
	first, err := dead.RequeueMany(w.Ctx, change)
	require.NoError(t, err)
	require.Equal(t, []any{2, 1, 4, int64(1)}, []any{first.Done, first.Refused, first.Left, first.Next})
	require.Equal(t, ids[0], first.Refusals[0].ID)
	require.ErrorIs(t, first.Refusals[0].Err, queue.ErrHeld)

	change.Skip = first.Next
	second, err := dead.RequeueMany(w.Ctx, change)
	require.NoError(t, err)
	require.Equal(t, []any{2, 1, 1, int64(2)}, []any{second.Done, second.Refused, second.Left, second.Next})
	require.ErrorIs(t, second.Refusals[0].Err, queue.ErrSoldOut)
	w.Work()
	require.Equal(t, map[string]int{order.Confirmed: 5, order.Failed: 3}, w.Count())
	require.Len(t, logged(w, "dead.requeue"), 4, "one entry for each, none for what was refused")

	change.Skip, change.Limit = 0, 1000
	gone, err := dead.DropMany(w.Ctx, change)
	require.NoError(t, err)
	require.Equal(t, deadletter.Result{Done: 3}, gone)
	require.Len(t, logged(w, "dead.drop"), 3)
	require.Zero(t, w.View().Dead)
	require.Equal(t, 3, w.Count()[order.Failed], "their orders stay failed")
	w.Clean()
}

func TestDeadLettersAreFound(t *testing.T) {
	w := orders.OnSQLite(t, 20, 1)
	dead := w.DeadLetters()
	var ids []string
	for n := range 5 {
		ids = append(ids, w.Bury(fmt.Sprint("shopper-", n), 1).ID)
	}
	require.NoError(t, w.Redis.LPush(w.Ctx, "sluice:{sale/0}:dead", "bogus").Err())
	now := time.Now()
	find := func(f deadletter.Filter, skip int64, n int) (found []string, next int64) {
		letters, next, err := dead.Find(w.Ctx, orders.Sale, f, skip, n)
		require.NoError(t, err)
		for _, l := range letters {
			found = append(found, l.Ticket.ID)
		}
		return found, next
	}
	for name, one := range map[string]struct {
		filter deadletter.Filter
		want   []string
	}{
		"by user":          {deadletter.Filter{User: "shopper-3"}, ids[3:4]},
		"by reason":        {deadletter.Filter{Reason: order.ReasonGaveUp, User: "shopper-2"}, ids[2:3]},
		"unreadable":       {deadletter.Filter{Reason: deadletter.ReasonUnreadable}, []string{"bogus"}},
		"before they died": {deadletter.Filter{Until: now.Add(-time.Hour)}, nil},
		"nobody's":         {deadletter.Filter{User: "nobody"}, nil},
	} {
		found, next := find(one.filter, 0, 10)
		require.Equal(t, one.want, found, name)
		require.Zero(t, next)
	}
	recent := deadletter.Filter{Since: now.Add(-time.Hour), Until: now.Add(time.Hour)}
	page, next := find(recent, 0, 2)
	require.Equal(t, []string{ids[4], ids[3]}, page, "newest first")
	page, next = find(recent, next, 2)
	require.Equal(t, []string{ids[2], ids[1]}, page)
	page, next = find(recent, next, 2)
	require.Equal(t, []string{ids[0]}, page)
	require.Zero(t, next)

	result, err := dead.DropMany(w.Ctx, deadletter.Change{Sale: orders.Sale, Actor: "olga", Reason: "no ticket",
		Filter: deadletter.Filter{Reason: deadletter.ReasonUnreadable}, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, 1, result.Done)
	require.EqualValues(t, 5, w.View().Dead, "the others are left alone")
	_, err = dead.DropMany(w.Ctx, deadletter.Change{Sale: orders.Sale, Actor: "olga", Reason: "two\nlines", Limit: 10})
	require.ErrorAs(t, err, new(invalid.Error))
	require.EqualValues(t, 5, w.View().Dead)
}

// A line that is being rebuilt says nothing of a letter: none is refused, and none is passed over by the next call.
func TestManyDeadLettersWaitForTheirLine(t *testing.T) {
	w := orders.OnSQLite(t, 5, 1)
	dead := w.DeadLetters()
	for n := range 3 {
		w.Bury(fmt.Sprint("shopper-", n), 1)
	}
	require.NoError(t, w.Redis.HSet(w.Ctx, "sluice:{sale/0}:meta", "gate", "1").Err())
	change := deadletter.Change{Sale: orders.Sale, Actor: "olga", Reason: "mended", Limit: 10}
	result, err := dead.RequeueMany(w.Ctx, change)
	require.ErrorIs(t, err, queue.ErrNotReady)
	require.Zero(t, result)
	require.NoError(t, w.Redis.HDel(w.Ctx, "sluice:{sale/0}:meta", "gate").Err())
	result, err = dead.RequeueMany(w.Ctx, change)
	require.NoError(t, err)
	require.Equal(t, deadletter.Result{Done: 3}, result)
}
