package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

// smudge makes a record unreadable behind its user.
func (b *box) smudge(id string) {
	b.t.Helper()
	record := b.rdb.HGet(b.ctx, b.key("orders"), id).Val()
	fields := strings.Split(record, "\t")
	fields[5] = "no time"
	require.NoError(b.t, b.rdb.HSet(b.ctx, b.key("orders"), id, strings.Join(fields, "\t")).Err())
}

// What can be read in part changes nothing, as often as it is tried: an error halfway would give units back each time.
func TestARecordThatIsReadableInPartMovesNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		now := time.Now()
		sold, behind := b.confirm(1, now)[0], b.confirm(1, now)[0]
		waiting := b.enqueue(1)[0]
		user := b.ticket(waiting).User
		b.smudge(sold)
		b.smudge(waiting)
		before, holders := b.view(), b.rdb.HGetAll(b.ctx, b.key("holders")).Val()
		for range 3 {
			require.NoError(t, b.Release(b.ctx, []queue.Ended{{ID: sold, State: queue.Expired}}, 0))
			require.ErrorIs(t, b.Cancel(b.ctx, waiting, user), queue.ErrBusy)
			require.NoError(t, b.Pay(b.ctx, waiting, now, now))
		}
		after := b.view()
		require.Equal(t, []int64{before.Stock, before.Bounded}, []int64{after.Stock, after.Bounded})
		require.Equal(t, holders, b.rdb.HGetAll(b.ctx, b.key("holders")).Val(), "its owner can still be found")

		both := []queue.Ended{{ID: sold, State: queue.Expired}, {ID: behind, State: queue.Expired}}
		require.NoError(t, b.Release(b.ctx, both, 0))
		require.Equal(t, before.Stock+1, b.view().Stock, "it holds up nobody behind it")
	})
}

// A batch keeps its lease when what its tickets held cannot be given back: without one it would be nobody's.
func TestABatchThatCannotBeSettledKeepsItsLease(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		b.enqueue(2)
		batch := b.claim("one", 2)
		b.overwrite("holders")
		require.Error(t, b.Settle(b.ctx, batch, all(batch, queue.OpFail)))
		require.EqualValues(t, 1, b.rdb.ZCard(b.ctx, b.key("lease")).Val())
	})
}
