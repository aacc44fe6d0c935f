package queue_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
)

func z(score float64, member string) redis.Z { return redis.Z{Score: score, Member: member} }

// messyLine leaves tickets in every place a ticket can be. In their order:
// confirmed, failed, retried, retried and cancelled, isolated, leased (2),
// stranded without a list entry, cancelled but not recorded, waiting (2).
func messyLine(t *testing.T, b *box) []string {
	order := b.Enqueue(11)
	b.SettleAll(b.MustClaim("confirmed", 1), queue.OpConfirm)
	b.SettleAll(b.MustClaim("failed", 1), queue.OpFail)
	b.SettleAll(b.MustClaim("retried", 2), queue.OpRetry)
	require.NoError(t, b.Cancel(b.Ctx, order[3], "user-00004"))
	require.Equal(t, order[3:4], queues.IDs(b.MustClaim("cancelled", 1)))
	b.MustClaim("lost", 1)
	b.EndLease("lost")
	_, _, err := b.Reclaim(b.Ctx)
	require.NoError(t, err)
	b.SettleAll(b.MustClaim("solo", 1), queue.OpBack)
	require.Equal(t, order[4:5], b.List("suspect"))
	require.NoError(t, b.Redis.LRem(b.Ctx, b.Key("suspect"), 0, order[4]).Err())
	b.MustClaim("leased", 2)
	require.NoError(t, b.Redis.LPush(b.Ctx, b.Key("suspect"), order[4]).Err())
	require.NoError(t, b.Redis.LRem(b.Ctx, b.Key("wait"), 0, order[7]).Err())
	require.NoError(t, b.Cancel(b.Ctx, order[8], "user-00009"))
	return order
}

func TestRebuildLosesNothing(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := messyLine(t, b)
		// The ledger has the first order, one whose worker did not come to settle, and one Redis forgot.
		live := []queue.Ticket{b.Ticket(order[0]), queues.Confirmed(order[5], "user-00006", 6),
			queues.Confirmed("forgotten", "zoe", 12)}
		require.Equal(t, order[2:], b.Rebuild(2, live))

		v := b.MustView()
		require.False(t, v.Rebuilding)
		require.EqualValues(t, []int64{2, 12, 3, 6, 0, 0}, []int64{v.Epoch, v.Seq, v.Waiting, v.Isolated, v.Leased,
			v.Retrying})
		require.EqualValues(t, 5000-3-6, v.Stock) // three orders; q: 2 4 6 7 9 10
		require.Equal(t, order[8:], b.List("wait"))
		require.ElementsMatch(t, order[2:8], b.List("suspect"))
		require.Equal(t, queue.Confirmed, b.Ticket("forgotten").State)
		require.Equal(t, queue.Confirmed, b.Ticket(order[5]).State, "an order at once, although it is listed")
		require.ErrorIs(t, b.Cancel(b.Ctx, order[5], "user-00006"), queue.ErrNotWaiting, "the ledger decides")
		known, _, err := b.Lookup(b.Ctx, order[1:2])
		require.NoError(t, err)
		require.Empty(t, known, "what has ended is the database's to answer")
		require.Equal(t, queue.LimitError{OrderID: "forgotten"}, b.refusal("zoe"))
		b.CheckUnits(3)

		for i := range 6 {
			solo := b.MustClaim("solo-"+order[i], 10)
			require.True(t, solo.Solo)
			op := queue.OpConfirm
			if solo.Tickets[0].State == queue.Cancelled {
				op = queue.OpClose
			}
			b.SettleAll(solo, op)
		}
		rest := b.MustClaim("rest", 10)
		require.Equal(t, order[8:], queues.IDs(rest))
		b.SettleAll(rest, queue.OpConfirm)
		require.False(t, b.MustView().InFlight())
		b.CheckUnits(3)
	})
}

// refusal asks for more than the limit allows.
func (b *box) refusal(user string) error {
	r := queues.Ask("too-much", user)
	r.Units = 3
	return b.MustAdmit(r)[0].Err
}

func TestRebuildAfterTotalLoss(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		b.Enqueue(5)
		require.NoError(t, b.Redis.FlushAll(b.Ctx).Err())
		live := []queue.Ticket{queues.Confirmed("a", "ann", 41), queues.Confirmed("b", "bob", 42)}
		require.Empty(t, b.Rebuild(2, live))
		next := b.MustAdmit(queues.Ask("next", "cat"))[0]
		require.EqualValues(t, 43, next.Ticket.Seq)
		require.EqualValues(t, 1, next.Ticket.Position)
		again := b.MustAdmit(queues.Ask("a", "ann"))[0]
		require.True(t, again.Replayed)
		require.Equal(t, queue.Confirmed, again.Ticket.State)
		b.CheckUnits(3)
	})
}

// Only the head of the line is lost: its tickets are not, and places stay positive.
func TestRebuildWithoutMeta(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(6)
		b.SettleAll(b.MustClaim("b1", 2), queue.OpConfirm)
		live := []queue.Ticket{b.Ticket(order[0]), b.Ticket(order[1])}
		require.NoError(t, b.Redis.Del(b.Ctx, b.Key("meta"), b.Key("stock")).Err())
		require.Equal(t, order[2:], b.Rebuild(2, live))
		require.EqualValues(t, 6, b.MustView().Seq)
		// An isolated ticket newer than the line is claimed, dies, and moves on what counts as claimed.
		require.NoError(t, b.Redis.Del(b.Ctx, b.Key("meta"), b.Key("stock"), b.Key("wait")).Err())
		require.Equal(t, order[2:], b.Rebuild(3, live))
		for range 4 {
			b.SettleAll(b.MustClaim(order[0], 1), queue.OpRetry)
		}
		next := b.MustAdmit(queues.Ask("next", "cat"))[0].Ticket
		require.EqualValues(t, []int64{7, 1}, []int64{next.Seq, next.Position})
		b.CheckUnits(3)
	})
}

func TestNewerRebuildWins(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(3)
		begin := func(epoch int64) bool {
			began, err := b.Begin(b.Ctx, epoch)
			require.NoError(t, err)
			return began
		}
		require.True(t, begin(2))
		require.False(t, begin(2))
		old, err := b.Survey(b.Ctx, 2)
		require.NoError(t, err)
		require.NoError(t, b.Redis.LRem(b.Ctx, b.Key("wait"), 0, order[1]).Err())
		require.NoError(t, b.Redis.HSet(b.Ctx, b.Key("orders"), "stale", "garbage").Err())
		require.True(t, begin(3))
		require.False(t, begin(2))

		before := b.dump()
		require.ErrorIs(t, b.Restore(b.Ctx, 2, []queue.Ticket{queues.Confirmed("a", "ann", 1)}, old), queue.ErrNotReady)
		s := queues.OpenSale()
		s.Epoch = 2
		require.ErrorIs(t, b.Reopen(b.Ctx, s, queue.Reopened{Stock: 1, Seq: 1}), queue.ErrNotReady)
		require.Equal(t, before, b.dump(), "the older rebuild changed something")

		require.Equal(t, order, b.Rebuild(4, nil))
		require.ErrorIs(t, b.Restore(b.Ctx, 4, nil, queue.Survey{}), queue.ErrNotReady, "open already")
		require.False(t, begin(4))
		b.CheckUnits(3)
	})
}

// While a line is rebuilt nobody else moves it.
func TestGateRefusesEverything(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(5)
		b.SettleAll(b.MustClaim("confirmed", 1), queue.OpConfirm)
		leased := b.MustClaim("leased", 2)
		_, err := b.Begin(b.Ctx, 2)
		require.NoError(t, err)
		require.True(t, b.MustView().Rebuilding)
		require.True(t, b.MustSnapshot().Rebuilding)
		require.Equal(t, order[1:3], b.List("suspect"))
		before := b.dump()

		for _, epoch := range []int64{1, 2} {
			_, err = b.Admit(b.Ctx, epoch, queues.Rate, []queue.Request{queues.Ask("new", "zoe"),
				queues.Ask(order[0], "user-00001")})
			require.ErrorIs(t, err, queue.ErrNotReady)
			s := queues.OpenSale()
			s.Epoch, s.Version = epoch, 9
			require.ErrorIs(t, b.Configure(b.Ctx, s), queue.ErrNotReady)
		}
		require.Empty(t, b.MustClaim("b2", 10).Tickets)
		require.ErrorIs(t, b.Settle(b.Ctx, leased, queues.Outcomes(leased, queue.OpConfirm)), queue.ErrFenced)
		require.ErrorIs(t, b.Cancel(b.Ctx, order[4], "user-00005"), queue.ErrNotReady)
		require.ErrorIs(t, b.Release(b.Ctx, []queue.Ended{{ID: order[0], State: queue.Expired}}, 0), queue.ErrNotReady)
		_, _, err = b.Reclaim(b.Ctx)
		require.NoError(t, err)
		_, err = b.Promote(b.Ctx, 10)
		require.NoError(t, err)
		require.Equal(t, before, b.dump())
	})
}

// A Redis that crashes keeps the line but admits nobody until somebody has checked it.
func TestRedisCrashClosesAdmission(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	b := newBox(t, server.Addr(), queues.OpenSale())
	order := b.Enqueue(20)
	b.MustClaim("b1", 5)
	before := b.dump()
	server.Kill()
	_, err := b.Admit(b.Ctx, 1, queues.Rate, []queue.Request{queues.Ask("new", "zoe")})
	require.Error(t, err)
	server.Start()

	require.Eventually(t, func() bool { return b.Redis.Ping(b.Ctx).Err() == nil }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, before, b.dump(), "what was answered is on disk")
	_, err = b.Admit(b.Ctx, 1, queues.Rate, []queue.Request{queues.Ask("new", "zoe")})
	require.ErrorIs(t, err, queue.ErrNotReady)
	require.Empty(t, b.MustClaim("b2", 5).Tickets, "nothing is drained either")
	require.False(t, b.MustView().Verified)
	require.Equal(t, order, b.Rebuild(2, nil))
	require.True(t, b.MustView().Verified)
	require.NoError(t, b.MustAdmit(queues.Ask("new", "zoe"))[0].Err)
	b.CheckUnits(3)
}
