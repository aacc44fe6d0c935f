package expiry_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/queue"
)

func TestExpire(t *testing.T) {
	orders.EachUnpaid(t, 3, 1, func(w *orders.World) {
		early, late, paid := w.Confirm("ann", 1), w.Confirm("bob", 1), w.Confirm("cid", 1)
		_, err := w.Pay(paid.ID, orders.Pays(paid.ID, 1))
		require.NoError(w.T, err)
		w.PassDeadline(early.ID)
		require.NoError(w.T, w.Expirer.Expire(w.Ctx))
		require.Equal(w.T, map[string]int{order.Expired: 1, order.Confirmed: 1, order.Paid: 1}, w.Count())
		row := w.Rows()[early.ID]
		require.Nil(w.T, row.Slot)
		require.Equal(w.T, 1, row.Released)
		require.NotZero(w.T, row.EndedAt)
		require.Equal(w.T, queue.Expired, w.Ticket(early.ID).State)
		require.EqualValues(w.T, 1, w.Available())
		require.EqualValues(w.T, 1, w.View().Stock)
		require.EqualValues(w.T, 1, w.Unpaid())
		require.Equal(w.T, 1, w.News()["order.expired email"])
		w.Clean()
		w.Confirm("ann", 1) // the slot is free, the unit is for sale
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, late.ID, "bob"))
		require.EqualValues(w.T, 1, w.Unpaid(), "what is cancelled has no deadline")
		w.Clean()
	})
}

// Deadlines that the two stores disagree on are the database's.
func TestExpireFollowsTheDatabase(t *testing.T) {
	orders.EachUnpaid(t, 5, 1, func(w *orders.World) {
		postponed, paid, never := w.Confirm("ann", 1), w.Confirm("bob", 1), w.Confirm("cid", 1)
		// its payer died before it told the line
		w.Exec("UPDATE orders SET status = 'paid', paid_at = 7 WHERE id = ?", paid.ID)
		w.Exec("UPDATE orders SET pay_by = 0 WHERE id = ?", never.ID)
		for _, id := range []string{postponed.ID, paid.ID, never.ID, "unheard-of"} {
			require.NoError(w.T, w.Redis.ZAdd(w.Ctx, orders.Key("due"), redis.Z{Score: 1, Member: id}).Err())
		}
		require.NoError(w.T, w.Expirer.Expire(w.Ctx))
		require.Equal(w.T, map[string]int{order.Confirmed: 2, order.Paid: 1}, w.Count())
		require.Equal(w.T, queue.Paid, w.Ticket(paid.ID).State, "the line learns of it")
		due, err := w.Redis.ZRangeWithScores(w.Ctx, orders.Key("due"), 0, -1).Result()
		require.NoError(w.T, err)
		require.Equal(w.T, []redis.Z{{Score: float64(w.Rows()[postponed.ID].PayBy), Member: postponed.ID}}, due)
		w.Clean()
	})
}

// What one expirer has taken and lost comes back with its lease, and what the
// line has forgotten is found in the database.
func TestExpireWhatWasForgotten(t *testing.T) {
	orders.EachUnpaid(t, 5, 1, func(w *orders.World) {
		handed, forgotten := w.Confirm("ann", 1), w.Confirm("bob", 1)
		w.PassDeadline(handed.ID)
		overdue, err := w.Line.Overdue(w.Ctx, 10, time.Hour)
		require.NoError(w.T, err)
		require.Equal(w.T, []string{handed.ID}, overdue.IDs)
		require.EqualValues(w.T, 2, overdue.Unpaid)
		require.NoError(w.T, w.Expirer.Expire(w.Ctx))
		require.Equal(w.T, map[string]int{order.Confirmed: 2}, w.Count(), "somebody else has it")
		w.PassDeadline(handed.ID)
		require.NoError(w.T, w.Expirer.Expire(w.Ctx))
		require.Equal(w.T, map[string]int{order.Confirmed: 1, order.Expired: 1}, w.Count())

		w.PassDeadline(forgotten.ID)
		require.NoError(w.T, w.Line.Undue(w.Ctx, []string{forgotten.ID}))
		require.NoError(w.T, w.Expirer.Expire(w.Ctx))
		require.Equal(w.T, 1, w.Count()[order.Confirmed])
		require.NoError(w.T, w.Expirer.Sweep(w.Ctx))
		require.Equal(w.T, map[string]int{order.Expired: 2}, w.Count())
		require.EqualValues(w.T, 5, w.View().Stock)
		w.Clean()
	})
}

// A rebuild of the line brings the deadlines back.
func TestDeadlinesSurviveRedis(t *testing.T) {
	orders.EachUnpaid(t, 5, 1, func(w *orders.World) {
		one := w.Confirm("ann", 1)
		require.NoError(w.T, w.Redis.FlushAll(w.Ctx).Err())
		w.CatchUp()
		require.EqualValues(w.T, 1, w.Unpaid())
		require.Equal(w.T, w.Rows()[one.ID].PayBy, w.Ticket(one.ID).PayBy.UnixMilli())
		w.PassDeadline(one.ID)
		require.NoError(w.T, w.Expirer.Expire(w.Ctx))
		require.Equal(w.T, map[string]int{order.Expired: 1}, w.Count())
		w.Clean()
	})
}

// An order that expires before its worker has settled goes back with the ticket.
func TestExpireBeforeItsTicketIsSettled(t *testing.T) {
	orders.EachUnpaid(t, 2, 1, func(w *orders.World) {
		one := w.Admit("ann", 1)
		batch := w.Claim(1)
		outcomes := w.Handle(batch)
		w.Exec("UPDATE orders SET pay_by = 1 WHERE id = ?", one.ID)
		require.NoError(w.T, w.Expirer.Sweep(w.Ctx))
		require.Equal(w.T, map[string]int{order.Expired: 1}, w.Count())
		w.Clean()
		w.EndLease(batch)
		w.Work()
		require.Equal(w.T, queue.Expired, w.Ticket(one.ID).State)
		require.EqualValues(w.T, 2, w.View().Stock)
		require.Equal(w.T, map[string]int{"c": 1}, orders.Ops(outcomes))
		w.Clean()
	})
}

// More than one batch at once, and no order twice.
func TestExpireManyAtOnce(t *testing.T) {
	const many = 1100
	orders.EachUnpaid(t, many, 1, func(w *orders.World) {
		overdue(w, many)
		drain(w, many)
		require.Equal(w.T, map[string]int{order.Expired: many}, w.Count())
		require.Zero(w.T, w.Unpaid())
		require.EqualValues(w.T, many, w.Available())
		w.Clean()
	})
}

// BenchmarkExpireTenThousand is the time until ten thousand orders that are due at one instant are gone. It runs on a
// real Redis; five seconds are allowed.
func BenchmarkExpireTenThousand(b *testing.B) {
	const many = 10_000
	for _, d := range tables.Databases(b) {
		b.Run(d.Driver, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				w := orders.NewUnpaid(b, tables.New(b, d.Driver), testkit.Redis(b).Addr(),
					orders.Terms{Stock: many, Limit: 1, Deadline: time.Hour})
				overdue(w, many)
				b.StartTimer()
				drain(w, many)
				b.StopTimer()
				w.Clean()
			}
		})
	}
}

// overdue confirms n orders that are all due by now.
func overdue(w *orders.World, n int) {
	w.T.Helper()
	for from := 0; from < n; from += 100 {
		requests := make([]queue.Request, min(100, n-from))
		for i := range requests {
			requests[i] = w.Request("user", 1)
			requests[i].User = requests[i].ID
		}
		admissions, err := w.Line.Admit(w.Ctx, 1, 100, requests)
		require.NoError(w.T, err)
		for _, a := range admissions {
			require.NoError(w.T, a.Err)
		}
	}
	w.Work()
	due, err := w.Redis.ZRange(w.Ctx, orders.Key("due"), 0, -1).Result()
	require.NoError(w.T, err)
	require.Len(w.T, due, n)
	passed := make([]redis.Z, len(due))
	for i, id := range due {
		passed[i] = redis.Z{Score: 1, Member: id}
	}
	w.Exec("UPDATE orders SET pay_by = 1")
	require.NoError(w.T, w.Redis.ZAdd(w.Ctx, orders.Key("due"), passed...).Err())
}

// drain runs an expirer until all units are for sale again.
func drain(w *orders.World, units int64) {
	w.T.Helper()
	ctx, stop := context.WithCancel(w.Ctx)
	done := make(chan struct{})
	go func() { defer close(done); w.Expirer.Run(ctx) }()
	require.Eventually(w.T, func() bool { return w.View().Stock == units }, 2*time.Minute, 20*time.Millisecond)
	stop()
	<-done
}
