package queue_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
)

// The sweep finds work that nobody announced, and says of what kind it is.
func TestMaintenance(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		idle := boxOn(t, b.rdb, "idle", openSale())
		due := func() []queue.Maintenance {
			found, failed := b.lines.Maintenance(b.ctx, []string{idle.Sale(), b.Sale(), "missing"})
			require.NoError(t, errors.Join(failed...))
			return found
		}
		require.Equal(t, []queue.Maintenance{0, 0, 0}, due())
		order := b.enqueue(3)
		require.Equal(t, []queue.Maintenance{0, queue.Claimable, 0}, due())
		batch := b.claim("one", 3)
		require.Equal(t, []queue.Maintenance{0, 0, 0}, due(), "a worker has them")
		b.expire(batch.ID)
		require.Equal(t, []queue.Maintenance{0, queue.TakeOver, 0}, due())
		_, _, err := b.Reclaim(b.ctx)
		require.NoError(t, err)
		require.Equal(t, []queue.Maintenance{0, queue.Claimable, 0}, due(), "as isolated tickets")

		for i := range order {
			again := b.claim(fmt.Sprintf("again-%d", i), 1)
			b.settle(again, queue.OpRetry)
		}
		require.Equal(t, []queue.Maintenance{0, 0, 0}, due(), "their delay is not over")
		b.due(order[1])
		require.Equal(t, []queue.Maintenance{0, queue.PromoteDue, 0}, due())

		require.NoError(t, b.rdb.HSet(b.ctx, b.key("leased"), "restored from a backup", order[2]).Err())
		require.Equal(t, []queue.Maintenance{0, queue.TakeOver + queue.PromoteDue, 0}, due(),
			"a batch without a lease is nobody's")
	})
}

// A line that cannot be asked holds up none of the others.
func TestMaintenanceOfOneLineThatFails(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Redis(t).Addr(), openSale())
	broken := boxOn(t, b.rdb, "broken", openSale())
	b.enqueue(1)
	require.NoError(t, b.rdb.Set(b.ctx, broken.key("wait"), "no list", 0).Err())
	found, failed := b.lines.Maintenance(b.ctx, []string{broken.Sale(), b.Sale()})
	require.ErrorContains(t, failed[0], "WRONGTYPE")
	require.NoError(t, failed[1])
	require.Equal(t, []queue.Maintenance{0, queue.Claimable}, found)
}
