package expiry_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

// A sale that cannot be served holds up no other.
func TestExpireGoesOnPastABrokenSale(t *testing.T) {
	orders.EachUnpaid(t, 2, 1, func(w *orders.World) {
		one, two := w.Confirm("ann", 1), w.Confirm("bob", 1)
		w.OpenSale("a-broken", 1, 1)
		require.NoError(w.T, w.Redis.Set(w.Ctx, "sluice:{a-broken/0}:due", "not a set", 0).Err())
		w.PassDeadline(one.ID)
		require.ErrorContains(w.T, w.Expirer.Expire(w.Ctx), "a-broken")
		require.Equal(w.T, order.Expired, w.Rows()[one.ID].Status)

		lost := w.Rows()[two.ID]
		lost.ID, lost.SaleID, lost.PayBy = "lost", "gone", 1
		w.Exec("UPDATE orders SET pay_by = 2 WHERE id = ?", two.ID)
		require.NoError(w.T, w.DB.Write.Create(&lost).Error)
		require.ErrorContains(w.T, w.Expirer.Sweep(w.Ctx), "gone")
		require.Equal(w.T, order.Expired, w.Rows()[two.ID].Status)
	})
}

// More forgotten orders of a sale that cannot be served than one look finds hide none of another.
func TestTheSweepFindsWhatLiesBehindABrokenSale(t *testing.T) {
	orders.EachUnpaid(t, 2, 1, func(w *orders.World) {
		one := w.Confirm("ann", 1)
		row := w.Rows()[one.ID]
		var lost []order.Row
		for i := range 600 {
			r := row
			slot := i + 1
			r.ID, r.SaleID, r.Slot, r.PayBy = fmt.Sprintf("lost-%04d", i), "gone", &slot, 1
			lost = append(lost, r)
		}
		require.NoError(w.T, w.DB.Write.CreateInBatches(&lost, 100).Error)
		w.Exec("UPDATE orders SET pay_by = 2 WHERE id = ?", one.ID)
		require.ErrorContains(w.T, w.Expirer.Sweep(w.Ctx), "gone")
		var after order.Row
		require.NoError(w.T, w.DB.Read.Take(&after, "id = ?", one.ID).Error)
		require.Equal(w.T, order.Expired, after.Status)
	})
}

// A sale whose orders take long to end, because somebody holds their rows, holds up no other.
func TestASaleThatIsHeldUpExpiresAlone(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{store.MySQL, store.Postgres} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			w := orders.NewUnpaid(t, tables.New(t, driver), testkit.Embedded(t).Addr(),
				orders.Terms{Stock: 50, Limit: 1, Deadline: time.Hour})
			w.OpenSale("held", 5, 1)
			held := w.Try("held", w.Request("zoe", 1))
			require.NoError(t, held.Err)
			b, err := w.Lines.Of("held").Claim(w.Ctx, "held", 1, orders.Lease)
			require.NoError(t, err)
			outcomes := w.Handle(b)
			require.NoError(t, w.Lines.Of("held").Settle(w.Ctx, b, []queue.Outcome{outcomes[held.Ticket.ID]}))
			w.Exec("UPDATE orders SET pay_by = 1")
			require.NoError(t, w.Redis.ZAddXX(w.Ctx, "sluice:{held/0}:due", redis.Z{Score: 1, Member: held.Ticket.ID}).
				Err())
			require.NoError(t, w.DB.Tx(w.Ctx, func(tx *gorm.DB) error {
				var row order.Row
				require.NoError(t, store.ForUpdate(tx).Take(&row, "id = ?", held.Ticket.ID).Error)
				ctx, stop := context.WithCancel(w.Ctx)
				done := make(chan struct{})
				go func() { defer close(done); w.Expirer.Run(ctx) }()
				defer func() { stop(); <-done }()
				for range 3 {
					one := w.Confirm(fmt.Sprint("user-", w.Tickets), 1)
					w.PassDeadline(one.ID)
					// The row is held for all that time, and each try for it ends only when its transaction runs out of
					// time.
					require.Eventually(t, func() bool {
						var now order.Row
						require.NoError(t, w.DB.Read.Take(&now, "id = ?", one.ID).Error)
						return now.Status == order.Expired
					}, orders.Soon, time.Millisecond)
				}
				return nil
			}))
		})
	}
}
