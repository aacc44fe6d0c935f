package queue_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

func TestCancelEverywhere(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(6)
		user := func(i int) string { return b.ticket(order[i]).User }
		refused := func(i int, want error) {
			t.Helper()
			before := b.dump()
			require.ErrorIs(t, b.Cancel(b.ctx, order[i], user(i)), want)
			require.Equal(t, before, b.dump())
		}
		b.settle(b.claim("b0", 1), queue.OpConfirm)
		refused(0, queue.ErrNotWaiting)
		b.settle(b.claim("b1", 1), queue.OpFail)
		refused(1, queue.ErrNotWaiting)
		b.settle(b.claim("b2", 1), queue.OpRetry)
		b.claim("b3", 1)
		refused(3, queue.ErrBusy)

		// While it waits for a retry.
		require.NoError(t, b.Cancel(b.ctx, order[2], user(2)))
		require.Equal(t, queue.Cancelled, b.ticket(order[2]).State)
		require.Zero(t, b.view().Retrying)
		require.Equal(t, []string{order[2]}, b.held(user(2)), "its worker may have made an order of it")
		require.Equal(t, order[2], b.list("wait")[0], "it is recorded next")
		refused(2, queue.ErrNotWaiting)
		// While it waits in line.
		require.NoError(t, b.Cancel(b.ctx, order[4], user(4)))
		require.Empty(t, b.held(user(4)))
		// Somebody else's, and nobody's.
		before := b.dump()
		require.ErrorIs(t, b.Cancel(b.ctx, order[5], "eve"), queue.ErrUnknown)
		require.ErrorIs(t, b.Cancel(b.ctx, "missing", "eve"), queue.ErrUnknown)
		require.Equal(t, before, b.dump())
		require.EqualValues(t, 5000-4, b.view().Stock)
		b.conserved(3)

		batch := b.claim("b4", 10)
		require.Equal(t, []string{order[2], order[4], order[5]}, ids(batch))
		require.NoError(t, b.Settle(b.ctx, batch, []queue.Outcome{
			{ID: order[2], Op: queue.OpClose}, {ID: order[4], Op: queue.OpClose}, {ID: order[5], Op: queue.OpConfirm}}))
		require.Empty(t, b.attempts())
		require.Empty(t, b.held(user(2)), "until that is written down")
		require.EqualValues(t, 5000-3, b.view().Stock)
		require.Equal(t, queue.Cancelled, b.ticket(order[4]).State)
		b.conserved(3)
	})
}

// What is left of a line whose head was lost is for a rebuild; one of which nothing is left knows nobody.
func TestALineWithoutItsHeadCancelsNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(2)
		user := b.ticket(order[0]).User
		require.NoError(t, b.rdb.Del(b.ctx, b.key("meta")).Err())
		before := b.dump()
		require.ErrorIs(t, b.Cancel(b.ctx, order[0], user), queue.ErrNotReady)
		require.ErrorIs(t, b.Cancel(b.ctx, "missing", user), queue.ErrUnknown)
		require.Equal(t, before, b.dump())
	})
}

// A ticket that a worker has is never cancelled behind its back, even when a
// rebuild has put older tickets behind it.
func TestCancelSparesIsolatedTicketsAfterARebuild(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(4)
		older := b.claim("older", 2)
		b.claim("newer", 2)
		b.settle(older, queue.OpBack)
		b.rebuild(2, nil)
		solo := b.claim("solo", 1)
		require.Equal(t, order[2:3], ids(solo))
		require.ErrorIs(t, b.Cancel(b.ctx, order[2], solo.Tickets[0].User), queue.ErrBusy)
	})
}

func TestReleaseIsDoneOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(4)
		b.settle(b.claim("b1", 3), queue.OpConfirm)
		ended := []queue.Ended{{ID: order[0], State: queue.Cancelled}, {ID: order[1], State: queue.Expired},
			{ID: order[3], State: queue.Expired}, {ID: "missing", State: queue.Expired}}
		for range 3 {
			require.NoError(t, b.Release(b.ctx, append(ended, ended[0]), 0))
			require.Equal(t, queue.Cancelled, b.ticket(order[0]).State)
			require.Equal(t, queue.Expired, b.ticket(order[1]).State)
			require.Equal(t, queue.Queued, b.ticket(order[3]).State, "what still waits is not released")
			require.EqualValues(t, 5000-2, b.view().Stock)
			require.EqualValues(t, 2, b.snapshot().Released)
			b.conserved(3)
		}
		require.ErrorIs(t, b.lines.Of("missing").Release(b.ctx, ended, 0), queue.ErrNotReady)
	})
}

func TestConfigureByVersion(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		s := openSale()
		s.Total, s.Version = 10, 5
		b := newBox(t, addr, s)
		b.enqueue(4)
		configure := func(version, total int64) int64 {
			t.Helper()
			s.Version, s.Total, s.Cap = version, total, int(total)
			require.NoError(t, b.Configure(b.ctx, s))
			return b.view().Stock
		}
		require.EqualValues(t, 6, configure(5, 100), "the same version")
		require.EqualValues(t, 6, configure(4, 100), "an older version")
		require.EqualValues(t, 16, configure(6, 20))
		require.EqualValues(t, 16, configure(6, 20), "repeated")
		require.EqualValues(t, 1, configure(7, 5))
		require.EqualValues(t, -2, configure(8, 2), "more is in flight than there is")
		b.conserved(3)
		require.EqualValues(t, 2, b.view().Cap)
		s.Version, s.Cap = 9, 1000
		require.NoError(t, b.Configure(b.ctx, s))
		require.ErrorIs(t, b.admit(ask("more", "zoe"))[0].Err, queue.ErrSoldOut)
		require.EqualValues(t, 1, configure(10, 5))
		require.EqualValues(t, 10, b.view().Version)

		s.Version, s.Epoch = 11, 2
		require.ErrorIs(t, b.Configure(b.ctx, s), queue.ErrNotReady, "another epoch")
		require.ErrorIs(t, b.lines.Of("missing").Configure(b.ctx, s), queue.ErrNotReady)
	})
}

func TestViewAndSnapshot(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		s := openSale()
		b := newBox(t, addr, s)
		missing, err := b.lines.Of("missing").View(b.ctx)
		require.NoError(t, err)
		require.Equal(t, queue.View{}, missing)
		gone, err := b.lines.Of("missing").Snapshot(b.ctx)
		require.NoError(t, err)
		require.Equal(t, queue.Snapshot{}, gone)

		order := b.enqueue(10)
		b.settle(b.claim("confirmed", 2), queue.OpConfirm)
		b.settle(b.claim("retried", 1), queue.OpRetry)
		b.settle(b.claim("dead", 1), queue.OpDead)
		b.claim("lost", 2)
		b.expire("lost")
		_, _, err = b.Reclaim(b.ctx)
		require.NoError(t, err)
		b.claim("leased", 1) // one of the two isolated tickets
		require.NoError(t, b.Cancel(b.ctx, order[9], "user-00010"))
		require.NoError(t, b.Release(b.ctx, []queue.Ended{{ID: order[0], State: queue.Expired}}, 0))

		v := b.view()
		require.WithinDuration(t, time.Now(), v.Now, time.Minute)
		require.Less(t, v.OldestAge, time.Minute)
		require.NotEmpty(t, v.Server)
		v.Now, v.OldestAge, v.Server = time.Time{}, 0, ""
		require.Equal(t, queue.View{Exists: true, Verified: true, Epoch: 1, Version: 1, State: "open", Cap: 1000,
			Seq: 10, Claimed: 6, Served: 3,
			Stock: 5000 - 7, Waiting: 4, Isolated: 1, Leased: 1, Retrying: 1, Dead: 1, Bounded: 6}, v)
		snap := b.snapshot()
		live := map[string]int64{order[2]: 1, order[4]: 1, order[5]: 1, order[6]: 1, order[7]: 1, order[8]: 1}
		listed := map[string]int64{order[9]: 10} // cancelled, and not yet recorded
		for _, i := range []int{2, 4, 5, 6, 7, 8} {
			listed[order[i]] = int64(i + 1)
		}
		require.Equal(t, queue.Snapshot{Exists: true, Epoch: 1, Version: 1, Total: 5000, Stock: 5000 - 7, Seq: 10,
			Released: 1, Bounded: 6, InFlight: live, Seqs: listed}, snap)

		// Damage shows.
		require.NoError(t, b.rdb.HSet(b.ctx, b.key("leased"), "orphan", order[8]+",ghost").Err())
		require.NoError(t, b.rdb.ZAdd(b.ctx, b.key("lease"), z(1, "hollow")).Err())
		snap = b.snapshot()
		require.EqualValues(t, 1, snap.Unleased)
		require.EqualValues(t, 1, snap.EmptyLeases)
		require.Equal(t, []string{"ghost"}, snap.Recordless)
		require.Equal(t, []string{order[8]}, snap.ListedTwice)

		require.NoError(t, b.Discard(b.ctx, b.view(), true), "tickets are in it")
		require.True(t, b.view().Exists)
		b.empty()
		require.NoError(t, b.Discard(b.ctx, b.view(), false), "a dead letter is in it")
		require.True(t, b.view().Exists)
		require.NoError(t, b.Discard(b.ctx, b.view(), true))
		left := b.dump()
		require.Len(t, left, 1, "but what became of its orders, which ends by itself")
		require.Contains(t, left, b.key("lost"))
		require.Positive(t, b.rdb.PTTL(b.ctx, b.key("lost")).Val())
	})
}
