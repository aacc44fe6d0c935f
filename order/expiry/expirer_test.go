package order_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

func TestExpire(t *testing.T) {
	eachUnpaid(t, 3, 1, func(w *world) {
		early, late, paid := w.confirm("ann", 1), w.confirm("bob", 1), w.confirm("cid", 1)
		_, err := w.pay(paid.ID, pays(paid.ID, 1))
		require.NoError(w.t, err)
		w.pass(early.ID)
		require.NoError(w.t, w.expirer.Expire(w.ctx))
		require.Equal(w.t, map[string]int{order.Expired: 1, order.Confirmed: 1, order.Paid: 1}, w.count())
		row := w.rows()[early.ID]
		require.Nil(w.t, row.Slot)
		require.Equal(w.t, 1, row.Released)
		require.NotZero(w.t, row.EndedAt)
		require.Equal(w.t, queue.Expired, w.ticket(early.ID).State)
		require.EqualValues(w.t, 1, w.available())
		require.EqualValues(w.t, 1, w.view().Stock)
		require.EqualValues(w.t, 1, w.unpaid())
		require.Equal(w.t, 1, w.news()["order.expired email"])
		w.clean()
		w.confirm("ann", 1) // the slot is free, the unit is for sale
		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, late.ID, "bob"))
		require.EqualValues(w.t, 1, w.unpaid(), "what is cancelled has no deadline")
		w.clean()
	})
}

// Deadlines that the two stores disagree on are the database's.
func TestExpireFollowsTheDatabase(t *testing.T) {
	eachUnpaid(t, 5, 1, func(w *world) {
		postponed, paid, never := w.confirm("ann", 1), w.confirm("bob", 1), w.confirm("cid", 1)
		// its payer died before it told the line
		w.exec("UPDATE orders SET status = 'paid', paid_at = 7 WHERE id = ?", paid.ID)
		w.exec("UPDATE orders SET pay_by = 0 WHERE id = ?", never.ID)
		for _, id := range []string{postponed.ID, paid.ID, never.ID, "unheard-of"} {
			require.NoError(w.t, w.rdb.ZAdd(w.ctx, dueKey, redis.Z{Score: 1, Member: id}).Err())
		}
		require.NoError(w.t, w.expirer.Expire(w.ctx))
		require.Equal(w.t, map[string]int{order.Confirmed: 2, order.Paid: 1}, w.count())
		require.Equal(w.t, queue.Paid, w.ticket(paid.ID).State, "the line learns of it")
		due, err := w.rdb.ZRangeWithScores(w.ctx, dueKey, 0, -1).Result()
		require.NoError(w.t, err)
		require.Equal(w.t, []redis.Z{{Score: float64(w.rows()[postponed.ID].PayBy), Member: postponed.ID}}, due)
		w.clean()
	})
}

// What one expirer has taken and lost comes back with its lease, and what the
// line has forgotten is found in the database.
func TestExpireWhatWasForgotten(t *testing.T) {
	eachUnpaid(t, 5, 1, func(w *world) {
		handed, forgotten := w.confirm("ann", 1), w.confirm("bob", 1)
		w.pass(handed.ID)
		overdue, err := w.line.Overdue(w.ctx, 10, time.Hour)
		require.NoError(w.t, err)
		require.Equal(w.t, []string{handed.ID}, overdue.IDs)
		require.EqualValues(w.t, 2, overdue.Unpaid)
		require.NoError(w.t, w.expirer.Expire(w.ctx))
		require.Equal(w.t, map[string]int{order.Confirmed: 2}, w.count(), "somebody else has it")
		w.pass(handed.ID)
		require.NoError(w.t, w.expirer.Expire(w.ctx))
		require.Equal(w.t, map[string]int{order.Confirmed: 1, order.Expired: 1}, w.count())

		w.pass(forgotten.ID)
		require.NoError(w.t, w.line.Undue(w.ctx, []string{forgotten.ID}))
		require.NoError(w.t, w.expirer.Expire(w.ctx))
		require.Equal(w.t, 1, w.count()[order.Confirmed])
		require.NoError(w.t, w.expirer.Sweep(w.ctx))
		require.Equal(w.t, map[string]int{order.Expired: 2}, w.count())
		require.EqualValues(w.t, 5, w.view().Stock)
		w.clean()
	})
}

// A rebuild of the line brings the deadlines back.
func TestDeadlinesSurviveRedis(t *testing.T) {
	eachUnpaid(t, 5, 1, func(w *world) {
		one := w.confirm("ann", 1)
		require.NoError(w.t, w.rdb.FlushAll(w.ctx).Err())
		w.keep()
		require.EqualValues(w.t, 1, w.unpaid())
		require.Equal(w.t, w.rows()[one.ID].PayBy, w.ticket(one.ID).PayBy.UnixMilli())
		w.pass(one.ID)
		require.NoError(w.t, w.expirer.Expire(w.ctx))
		require.Equal(w.t, map[string]int{order.Expired: 1}, w.count())
		w.clean()
	})
}

// An order that expires before its worker has settled goes back with the ticket.
func TestExpireBeforeItsTicketIsSettled(t *testing.T) {
	eachUnpaid(t, 2, 1, func(w *world) {
		one := w.admit("ann", 1)
		batch := w.claim(1)
		outcomes := w.handle(batch)
		w.exec("UPDATE orders SET pay_by = 1 WHERE id = ?", one.ID)
		require.NoError(w.t, w.expirer.Sweep(w.ctx))
		require.Equal(w.t, map[string]int{order.Expired: 1}, w.count())
		w.clean()
		w.expire(batch)
		w.work()
		require.Equal(w.t, queue.Expired, w.ticket(one.ID).State)
		require.EqualValues(w.t, 2, w.view().Stock)
		require.Equal(w.t, map[string]int{"c": 1}, ops(outcomes))
		w.clean()
	})
}

// More than one batch at once, and no order twice.
func TestExpireManyAtOnce(t *testing.T) {
	const orders = 1100
	eachUnpaid(t, orders, 1, func(w *world) {
		w.overdue(orders)
		w.drain(orders)
		require.Equal(w.t, map[string]int{order.Expired: orders}, w.count())
		require.Zero(w.t, w.unpaid())
		require.EqualValues(w.t, orders, w.available())
		w.clean()
	})
}

// BenchmarkExpireTenThousand is the time until ten thousand orders that are due
// at one instant are gone, on a real Redis; five seconds are allowed.
func BenchmarkExpireTenThousand(b *testing.B) {
	const orders = 10_000
	for _, d := range tables.Databases(b) {
		b.Run(d.Driver, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				w := newWorldWith(b, tables.New(b, d.Driver), testkit.Redis(b).Addr(), orders, 1, time.Hour)
				w.overdue(orders)
				b.StartTimer()
				w.drain(orders)
				b.StopTimer()
				w.clean()
			}
		})
	}
}

// overdue confirms n orders that are all due by now.
func (w *world) overdue(n int) {
	w.t.Helper()
	for from := 0; from < n; from += 100 {
		requests := make([]queue.Request, min(100, n-from))
		for i := range requests {
			requests[i] = w.request("user", 1)
			requests[i].User = requests[i].ID
		}
		admissions, err := w.line.Admit(w.ctx, 1, 100, requests)
		require.NoError(w.t, err)
		for _, a := range admissions {
			require.NoError(w.t, a.Err)
		}
	}
	w.work()
	due, err := w.rdb.ZRange(w.ctx, dueKey, 0, -1).Result()
	require.NoError(w.t, err)
	require.Len(w.t, due, n)
	passed := make([]redis.Z, len(due))
	for i, id := range due {
		passed[i] = redis.Z{Score: 1, Member: id}
	}
	w.exec("UPDATE orders SET pay_by = 1")
	require.NoError(w.t, w.rdb.ZAdd(w.ctx, dueKey, passed...).Err())
}

// drain runs an expirer until all units are for sale again.
func (w *world) drain(units int64) {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() { defer close(done); w.expirer.Run(ctx) }()
	require.Eventually(w.t, func() bool { return w.view().Stock == units }, 2*time.Minute, 20*time.Millisecond)
	stop()
	<-done
}

// A sale that cannot be served holds up no other.
func TestExpireGoesOnPastABrokenSale(t *testing.T) {
	eachUnpaid(t, 2, 1, func(w *world) {
		one, two := w.confirm("ann", 1), w.confirm("bob", 1)
		w.openSale("a-broken", 1, 1)
		require.NoError(w.t, w.rdb.Set(w.ctx, "sluice:{a-broken/0}:due", "not a set", 0).Err())
		w.pass(one.ID)
		require.ErrorContains(w.t, w.expirer.Expire(w.ctx), "a-broken")
		require.Equal(w.t, order.Expired, w.rows()[one.ID].Status)

		lost := w.rows()[two.ID]
		lost.ID, lost.SaleID, lost.PayBy = "lost", "gone", 1
		w.exec("UPDATE orders SET pay_by = 2 WHERE id = ?", two.ID)
		require.NoError(w.t, w.db.Write.Create(&lost).Error)
		require.ErrorContains(w.t, w.expirer.Sweep(w.ctx), "gone")
		require.Equal(w.t, order.Expired, w.rows()[two.ID].Status)
	})
}

// More forgotten orders of a sale that cannot be served than one look finds hide none of another.
func TestTheSweepFindsWhatLiesBehindABrokenSale(t *testing.T) {
	eachUnpaid(t, 2, 1, func(w *world) {
		one := w.confirm("ann", 1)
		row := w.rows()[one.ID]
		var lost []order.Row
		for i := range 600 {
			r := row
			slot := i + 1
			r.ID, r.SaleID, r.Slot, r.PayBy = fmt.Sprintf("lost-%04d", i), "gone", &slot, 1
			lost = append(lost, r)
		}
		require.NoError(w.t, w.db.Write.CreateInBatches(&lost, 100).Error)
		w.exec("UPDATE orders SET pay_by = 2 WHERE id = ?", one.ID)
		require.ErrorContains(w.t, w.expirer.Sweep(w.ctx), "gone")
		var after order.Row
		require.NoError(w.t, w.db.Read.Take(&after, "id = ?", one.ID).Error)
		require.Equal(w.t, order.Expired, after.Status)
	})
}

// A sale whose orders take long to end, because somebody holds their rows, holds up no other.
func TestASaleThatIsHeldUpExpiresAlone(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{store.MySQL, store.Postgres} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			w := newWorldWith(t, tables.New(t, driver), testkit.Embedded(t).Addr(), 50, 1, time.Hour)
			w.openSale("held", 5, 1)
			held := w.try("held", w.request("zoe", 1))
			require.NoError(t, held.Err)
			b, err := w.lines.Of("held").Claim(w.ctx, "held", 1, lease)
			require.NoError(t, err)
			outcomes := w.handle(b)
			require.NoError(t, w.lines.Of("held").Settle(w.ctx, b, []queue.Outcome{outcomes[held.Ticket.ID]}))
			w.exec("UPDATE orders SET pay_by = 1")
			require.NoError(t, w.rdb.ZAddXX(w.ctx, "sluice:{held/0}:due", redis.Z{Score: 1, Member: held.Ticket.ID}).
				Err())
			require.NoError(t, w.db.Tx(w.ctx, func(tx *gorm.DB) error {
				var row order.Row
				require.NoError(t, store.ForUpdate(tx).Take(&row, "id = ?", held.Ticket.ID).Error)
				ctx, stop := context.WithCancel(w.ctx)
				done := make(chan struct{})
				go func() { defer close(done); w.expirer.Run(ctx) }()
				defer func() { stop(); <-done }()
				for range 3 {
					one := w.confirm(fmt.Sprint("user-", w.tickets), 1)
					w.pass(one.ID)
					// The row is held for all that time, and each try for it ends only when its transaction runs out of
					// time.
					require.Eventually(t, func() bool {
						var now order.Row
						require.NoError(t, w.db.Read.Take(&now, "id = ?", one.ID).Error)
						return now.Status == order.Expired
					}, soon, time.Millisecond)
				}
				return nil
			}))
		})
	}
}
