package queue_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// An operator sees which worker holds what, and whose lease ends first.
func TestLeases(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		leases, n, err := b.Leases(b.Ctx, 0, 10)
		require.NoError(t, err)
		require.Empty(t, leases)
		require.Zero(t, n)

		waiting := b.Enqueue(30)
		hers, err := b.Lines.ForInstance("host/7", 0).Of(b.Sale()).Claim(b.Ctx, "b-2", 25, 2*queues.Long)
		require.NoError(t, err)
		b.MustClaim("b-1", 2)
		_, err = b.Claim(b.Ctx, "b-3", 3, time.Millisecond)
		require.NoError(t, err)

		var first []queue.Lease
		require.Eventually(t, func() bool {
			first, n, err = b.Leases(b.Ctx, 0, 2)
			return err == nil && len(first) == 2 && first[0].Left < 0
		}, 10*time.Second, time.Millisecond, "a lease that has run out says so")
		require.EqualValues(t, 3, n, "also those that were not asked for")
		require.Equal(t, []string{"b-3", "b-1"}, []string{first[0].Batch, first[1].Batch})
		require.Equal(t, waiting[27:], first[0].Orders)
		require.EqualValues(t, 3, first[0].Tickets)
		require.Empty(t, first[1].Instance)
		require.InDelta(t, queues.Long, first[1].Left, float64(time.Minute))
		require.WithinDuration(t, time.Now().Add(queues.Long), first[1].Deadline, time.Minute)

		rest, n, err := b.Leases(b.Ctx, 2, 10)
		require.NoError(t, err)
		require.EqualValues(t, 3, n)
		require.Len(t, rest, 1)
		require.Equal(t, "b-2", rest[0].Batch, "what was skipped is left out")
		leases, _, err = b.Leases(b.Ctx, 0, 10)
		require.NoError(t, err)
		require.Len(t, leases, 3)
		require.Equal(t, []string{"host/7", "b-2"}, []string{leases[2].Instance, leases[2].Batch})
		require.EqualValues(t, 25, leases[2].Tickets)
		require.Equal(t, waiting[:20], leases[2].Orders, "twenty of them")

		require.NoError(t, b.Lines.Of(b.Sale()).Settle(b.Ctx, hers, queues.Outcomes(hers, queue.OpConfirm)))
		_, n, err = b.Leases(b.Ctx, 0, 10)
		require.NoError(t, err)
		require.EqualValues(t, 2, n)
	})
}
