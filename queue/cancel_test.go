package queue_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

func TestCancelEverywhere(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(6)
		user := func(i int) string { return b.Ticket(order[i]).User }
		refused := func(i int, want error) {
			t.Helper()
			before := b.dump()
			require.ErrorIs(t, b.Cancel(b.Ctx, order[i], user(i)), want)
			require.Equal(t, before, b.dump())
		}
		b.SettleAll(b.MustClaim("b0", 1), queue.OpConfirm)
		refused(0, queue.ErrNotWaiting)
		b.SettleAll(b.MustClaim("b1", 1), queue.OpFail)
		refused(1, queue.ErrNotWaiting)
		b.SettleAll(b.MustClaim("b2", 1), queue.OpRetry)
		b.MustClaim("b3", 1)
		refused(3, queue.ErrBusy)

		// While it waits for a retry.
		require.NoError(t, b.Cancel(b.Ctx, order[2], user(2)))
		require.Equal(t, queue.Cancelled, b.Ticket(order[2]).State)
		require.Zero(t, b.MustView().Retrying)
		require.Equal(t, []string{order[2]}, b.held(user(2)), "its worker may have made an order of it")
		require.Equal(t, order[2], b.List("wait")[0], "it is recorded next")
		refused(2, queue.ErrNotWaiting)
		// While it waits in line.
		require.NoError(t, b.Cancel(b.Ctx, order[4], user(4)))
		require.Empty(t, b.held(user(4)))
		// Somebody else's, and nobody's.
		before := b.dump()
		require.ErrorIs(t, b.Cancel(b.Ctx, order[5], "eve"), queue.ErrUnknown)
		require.ErrorIs(t, b.Cancel(b.Ctx, "missing", "eve"), queue.ErrUnknown)
		require.Equal(t, before, b.dump())
		require.EqualValues(t, 5000-4, b.MustView().Stock)
		b.CheckUnits(3)

		batch := b.MustClaim("b4", 10)
		require.Equal(t, []string{order[2], order[4], order[5]}, queues.IDs(batch))
		require.NoError(t, b.Settle(b.Ctx, batch, []queue.Outcome{
			{ID: order[2], Op: queue.OpClose}, {ID: order[4], Op: queue.OpClose}, {ID: order[5], Op: queue.OpConfirm}}))
		require.Empty(t, b.Attempts())
		require.Empty(t, b.held(user(2)), "until that is written down")
		require.EqualValues(t, 5000-3, b.MustView().Stock)
		require.Equal(t, queue.Cancelled, b.Ticket(order[4]).State)
		b.CheckUnits(3)
	})
}

// What is left of a line whose head was lost is for a rebuild; one of which nothing is left knows nobody.
func TestALineWithoutItsHeadCancelsNothing(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(2)
		user := b.Ticket(order[0]).User
		require.NoError(t, b.Redis.Del(b.Ctx, b.Key("meta")).Err())
		before := b.dump()
		require.ErrorIs(t, b.Cancel(b.Ctx, order[0], user), queue.ErrNotReady)
		require.ErrorIs(t, b.Cancel(b.Ctx, "missing", user), queue.ErrUnknown)
		require.Equal(t, before, b.dump())
	})
}

// A ticket that a worker has is never cancelled behind its back, even when a
// rebuild has put older tickets behind it.
func TestCancelSparesIsolatedTicketsAfterARebuild(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(4)
		older := b.MustClaim("older", 2)
		b.MustClaim("newer", 2)
		b.SettleAll(older, queue.OpBack)
		b.Rebuild(2, nil)
		solo := b.MustClaim("solo", 1)
		require.Equal(t, order[2:3], queues.IDs(solo))
		require.ErrorIs(t, b.Cancel(b.Ctx, order[2], solo.Tickets[0].User), queue.ErrBusy)
	})
}

func TestReleaseIsDoneOnce(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(4)
		b.SettleAll(b.MustClaim("b1", 3), queue.OpConfirm)
		ended := []queue.Ended{{ID: order[0], State: queue.Cancelled}, {ID: order[1], State: queue.Expired},
			{ID: order[3], State: queue.Expired}, {ID: "missing", State: queue.Expired}}
		for range 3 {
			require.NoError(t, b.Release(b.Ctx, append(ended, ended[0]), 0))
			require.Equal(t, queue.Cancelled, b.Ticket(order[0]).State)
			require.Equal(t, queue.Expired, b.Ticket(order[1]).State)
			require.Equal(t, queue.Queued, b.Ticket(order[3]).State, "what still waits is not released")
			require.EqualValues(t, 5000-2, b.MustView().Stock)
			require.EqualValues(t, 2, b.MustSnapshot().Released)
			b.CheckUnits(3)
		}
		require.ErrorIs(t, b.Lines.Of("missing").Release(b.Ctx, ended, 0), queue.ErrNotReady)
	})
}

func TestConfigureByVersion(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		s.Total, s.Version = 10, 5
		b := newBox(t, addr, s)
		b.Enqueue(4)
		configure := func(version, total int64) int64 {
			t.Helper()
			s.Version, s.Total, s.Cap = version, total, int(total)
			require.NoError(t, b.Configure(b.Ctx, s))
			return b.MustView().Stock
		}
		require.EqualValues(t, 6, configure(5, 100), "the same version")
		require.EqualValues(t, 6, configure(4, 100), "an older version")
		require.EqualValues(t, 16, configure(6, 20))
		require.EqualValues(t, 16, configure(6, 20), "repeated")
		require.EqualValues(t, 1, configure(7, 5))
		require.EqualValues(t, -2, configure(8, 2), "more is in flight than there is")
		b.CheckUnits(3)
		require.EqualValues(t, 2, b.MustView().Cap)
		s.Version, s.Cap = 9, 1000
		require.NoError(t, b.Configure(b.Ctx, s))
		require.ErrorIs(t, b.MustAdmit(queues.Ask("more", "zoe"))[0].Err, queue.ErrSoldOut)
		require.EqualValues(t, 1, configure(10, 5))
		require.EqualValues(t, 10, b.MustView().Version)

		s.Version, s.Epoch = 11, 2
		require.ErrorIs(t, b.Configure(b.Ctx, s), queue.ErrNotReady, "another epoch")
		require.ErrorIs(t, b.Lines.Of("missing").Configure(b.Ctx, s), queue.ErrNotReady)
	})
}

func TestViewAndSnapshot(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		b := newBox(t, addr, s)
		missing, err := b.Lines.Of("missing").View(b.Ctx)
		require.NoError(t, err)
		require.Equal(t, queue.View{}, missing)
		gone, err := b.Lines.Of("missing").Snapshot(b.Ctx)
		require.NoError(t, err)
		require.Equal(t, queue.Snapshot{}, gone)

		order := b.Enqueue(10)
		b.SettleAll(b.MustClaim("confirmed", 2), queue.OpConfirm)
		b.SettleAll(b.MustClaim("retried", 1), queue.OpRetry)
		b.SettleAll(b.MustClaim("dead", 1), queue.OpDead)
		b.MustClaim("lost", 2)
		b.EndLease("lost")
		_, _, err = b.Reclaim(b.Ctx)
		require.NoError(t, err)
		b.MustClaim("leased", 1) // one of the two isolated tickets
		require.NoError(t, b.Cancel(b.Ctx, order[9], "user-00010"))
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: order[0], State: queue.Expired}}, 0))

		v := b.MustView()
		require.WithinDuration(t, time.Now(), v.Now, time.Minute)
		require.Less(t, v.OldestAge, time.Minute)
		require.NotEmpty(t, v.Server)
		v.Now, v.OldestAge, v.Server = time.Time{}, 0, ""
		require.Equal(t, queue.View{Exists: true, Verified: true, Epoch: 1, Version: 1, State: "open", Cap: 1000,
			Seq: 10, Claimed: 6, Served: 3,
			Stock: 5000 - 7, Waiting: 4, Isolated: 1, Leased: 1, Retrying: 1, Dead: 1, Bounded: 6}, v)
		snap := b.MustSnapshot()
		live := map[string]int64{order[2]: 1, order[4]: 1, order[5]: 1, order[6]: 1, order[7]: 1, order[8]: 1}
		listed := map[string]int64{order[9]: 10} // cancelled, and not yet recorded
		for _, i := range []int{2, 4, 5, 6, 7, 8} {
			listed[order[i]] = int64(i + 1)
		}
		require.Equal(t, queue.Snapshot{Exists: true, Epoch: 1, Version: 1, Total: 5000, Stock: 5000 - 7, Seq: 10,
			Released: 1, Bounded: 6, InFlight: live, Seqs: listed}, snap)

		// Damage shows.
		require.NoError(t, b.Redis.HSet(b.Ctx, b.Key("leased"), "orphan", order[8]+",ghost").Err())
		require.NoError(t, b.Redis.ZAdd(b.Ctx, b.Key("lease"), z(1, "hollow")).Err())
		snap = b.MustSnapshot()
		require.EqualValues(t, 1, snap.Unleased)
		require.EqualValues(t, 1, snap.EmptyLeases)
		require.Equal(t, []string{"ghost"}, snap.Recordless)
		require.Equal(t, []string{order[8]}, snap.ListedTwice)

		require.NoError(t, b.Discard(b.Ctx, b.MustView(), true), "tickets are in it")
		require.True(t, b.MustView().Exists)
		b.empty()
		require.NoError(t, b.Discard(b.Ctx, b.MustView(), false), "a dead letter is in it")
		require.True(t, b.MustView().Exists)
		require.NoError(t, b.Discard(b.Ctx, b.MustView(), true))
		left := b.dump()
		require.Len(t, left, 1, "but what became of its orders, which ends by itself")
		require.Contains(t, left, b.Key("lost"))
		require.Positive(t, b.Redis.PTTL(b.Ctx, b.Key("lost")).Val())
	})
}
