package queue_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// The sweep finds work that nobody announced, and says of what kind it is.
func TestMaintenance(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		idle := boxOn(t, b.Redis, "idle", queues.OpenSale())
		due := func() []queue.Maintenance {
			found, failed := b.Lines.Maintenance(b.Ctx, []string{idle.Sale(), b.Sale(), "missing"})
			require.NoError(t, errors.Join(failed...))
			return found
		}
		require.Equal(t, []queue.Maintenance{0, 0, 0}, due())
		order := b.Enqueue(3)
		require.Equal(t, []queue.Maintenance{0, queue.Claimable, 0}, due())
		batch := b.MustClaim("one", 3)
		require.Equal(t, []queue.Maintenance{0, 0, 0}, due(), "a worker has them")
		b.EndLease(batch.ID)
		require.Equal(t, []queue.Maintenance{0, queue.TakeOver, 0}, due())
		_, _, err := b.Reclaim(b.Ctx)
		require.NoError(t, err)
		require.Equal(t, []queue.Maintenance{0, queue.Claimable, 0}, due(), "as isolated tickets")

		for i := range order {
			again := b.MustClaim(fmt.Sprintf("again-%d", i), 1)
			b.SettleAll(again, queue.OpRetry)
		}
		require.Equal(t, []queue.Maintenance{0, 0, 0}, due(), "their delay is not over")
		b.EndDelay(order[1])
		require.Equal(t, []queue.Maintenance{0, queue.PromoteDue, 0}, due())

		require.NoError(t, b.Redis.HSet(b.Ctx, b.Key("leased"), "restored from a backup", order[2]).Err())
		require.Equal(t, []queue.Maintenance{0, queue.TakeOver + queue.PromoteDue, 0}, due(),
			"a batch without a lease is nobody's")
	})
}

// A line that cannot be asked holds up none of the others.
func TestMaintenanceOfOneLineThatFails(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Redis(t).Addr(), queues.OpenSale())
	broken := boxOn(t, b.Redis, "broken", queues.OpenSale())
	b.Enqueue(1)
	require.NoError(t, b.Redis.Set(b.Ctx, broken.Key("wait"), "no list", 0).Err())
	found, failed := b.Lines.Maintenance(b.Ctx, []string{broken.Sale(), b.Sale()})
	require.ErrorContains(t, failed[0], "WRONGTYPE")
	require.NoError(t, failed[1])
	require.Equal(t, []queue.Maintenance{0, queue.Claimable}, found)
}
