package queue_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// since is who was admitted after a sequence, and whether all of them could be named.
func (b *box) since(seq int64, most int) ([]string, bool) {
	b.T.Helper()
	users, newest, ok, err := b.UsersSince(b.Ctx, b.Epoch, seq, most)
	require.NoError(b.T, err)
	if ok {
		require.Equal(b.T, b.MustView().Seq, newest)
	}
	return users, ok
}

// Who was admitted since is named wherever the ticket is by now: waiting, with a worker, an order,
// or taken again by a late payment.
func TestUsersSince(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		named := func(seq int64, want ...string) {
			t.Helper()
			users, ok := b.since(seq, 100)
			require.True(t, ok)
			require.ElementsMatch(t, want, users)
		}
		named(0)
		b.Enqueue(3)
		named(0, "user-00001", "user-00002", "user-00003")
		named(2, "user-00003")
		b.SettleAll(b.MustClaim("one", 2), queue.OpConfirm)
		named(0, "user-00001", "user-00002", "user-00003")

		back := b.MustClaim("two", 1)
		b.SettleAll(back, queue.OpBack)
		b.SettleAll(b.MustClaim("three", 1), queue.OpConfirm)
		named(2, "user-00003")

		late := b.Ticket("sale-00001")
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: late.ID, State: queue.Expired}}, 0))
		_, err := b.ReclaimUnit(b.Ctx, b.Epoch, "late", queues.Long, late)
		require.NoError(t, err)
		named(3, "user-00001")

		_, ok := b.since(0, 3)
		require.False(t, ok, "more than were asked for")
		require.NoError(t, b.Redis.Del(b.Ctx, b.Key("recent")).Err())
		_, ok = b.since(0, 100)
		require.False(t, ok, "Redis has forgotten who they were")
	})
}

// The list of those claimed last is bounded, however they come into it.
func TestRecentIsBounded(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		settings := queues.OpenSale()
		settings.Cap, settings.Total = 20_000, 20_000
		b := newBox(t, addr, settings)
		full := func() int64 { return b.Redis.LLen(b.Ctx, b.Key("recent")).Val() }
		b.Enqueue(11_000)
		drain := func(claims int) {
			for range claims {
				b.SettleAll(b.MustClaim(uuid.NewString(), 2000), queue.OpConfirm)
			}
		}
		drain(3)
		require.Zero(t, full(), "behind thousands that wait nobody looks for them")
		drain(3)
		require.EqualValues(t, 5000, full())
		users, ok := b.since(11_000-5000, 5000)
		require.True(t, ok)
		require.Len(t, users, 5000)

		late := b.Ticket("sale-10999")
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: late.ID, State: queue.Expired}}, 0))
		_, err := b.ReclaimUnit(b.Ctx, b.Epoch, "late", time.Minute, late)
		require.NoError(t, err)
		require.EqualValues(t, 5000, full())
	})
}
