package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// smudge makes a record unreadable behind its user.
func (b *box) smudge(id string) {
	b.T.Helper()
	record := b.Redis.HGet(b.Ctx, b.Key("orders"), id).Val()
	fields := strings.Split(record, "\t")
	fields[5] = "no time"
	require.NoError(b.T, b.Redis.HSet(b.Ctx, b.Key("orders"), id, strings.Join(fields, "\t")).Err())
}

// What can be read in part changes nothing, as often as it is tried: an error halfway would give units back each time.
func TestARecordThatIsReadableInPartMovesNothing(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		now := time.Now()
		sold, behind := b.confirm(1, now)[0], b.confirm(1, now)[0]
		waiting := b.Enqueue(1)[0]
		user := b.Ticket(waiting).User
		b.smudge(sold)
		b.smudge(waiting)
		before, holders := b.MustView(), b.Redis.HGetAll(b.Ctx, b.Key("holders")).Val()
		for range 3 {
			require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: sold, State: queue.Expired}}, 0))
			require.ErrorIs(t, b.Cancel(b.Ctx, waiting, user), queue.ErrBusy)
			require.NoError(t, b.Pay(b.Ctx, waiting, now, now))
		}
		after := b.MustView()
		require.Equal(t, []int64{before.Stock, before.Bounded}, []int64{after.Stock, after.Bounded})
		require.Equal(t, holders, b.Redis.HGetAll(b.Ctx, b.Key("holders")).Val(), "its owner can still be found")

		both := []queue.Ended{{ID: sold, State: queue.Expired}, {ID: behind, State: queue.Expired}}
		require.NoError(t, b.Release(b.Ctx, both, 0))
		require.Equal(t, before.Stock+1, b.MustView().Stock, "it holds up nobody behind it")
	})
}

// A batch keeps its lease when what its tickets held cannot be given back: without one it would be nobody's.
func TestABatchThatCannotBeSettledKeepsItsLease(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		b.Enqueue(2)
		batch := b.MustClaim("one", 2)
		b.Overwrite("holders")
		require.Error(t, b.Settle(b.Ctx, batch, queues.Outcomes(batch, queue.OpFail)))
		require.EqualValues(t, 1, b.Redis.ZCard(b.Ctx, b.Key("lease")).Val())
	})
}
