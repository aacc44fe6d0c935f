package queue_test

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
)

func z(score float64, member string) redis.Z { return redis.Z{Score: score, Member: member} }

// rebuild does what the owner of the ledger does; live is what the ledger
// knows. It returns the surviving tickets by id.
func (b *box) rebuild(epoch int64, live []queue.Ticket) []string {
	b.t.Helper()
	began, err := b.Begin(b.ctx, epoch)
	require.NoError(b.t, err)
	require.True(b.t, began)
	left, err := b.Survey(b.ctx, epoch)
	require.NoError(b.t, err)
	require.NoError(b.t, b.Restore(b.ctx, epoch, live, left))
	s := openSale()
	s.Epoch, s.Version = epoch, epoch
	stock, seq, ledger := s.Total, int64(0), map[string]bool{}
	for _, t := range live {
		ledger[t.ID] = true
		stock, seq = stock-int64(t.Units), max(seq, t.Seq)
	}
	var names []string
	for _, t := range left.Tickets {
		names = append(names, t.ID)
		if t.State == queue.Queued && !ledger[t.ID] {
			stock -= int64(t.Units)
		}
	}
	require.NoError(b.t, b.Reopen(b.ctx, s, queue.Reopened{Stock: stock, Seq: seq}))
	b.epoch = epoch
	slices.Sort(names)
	return names
}

func confirmed(id, user string, seq int64) queue.Ticket {
	at := time.UnixMilli(time.Now().UnixMilli()).UTC()
	return queue.Ticket{ID: id, User: user, State: queue.Confirmed, Seq: seq, Units: 1, Slot: 1, AdmittedAt: at,
		At: at, Fingerprint: "print", Position: 1}
}

// messyLine leaves tickets in every place a ticket can be. In their order:
// confirmed, failed, retried, retried and cancelled, isolated, leased (2),
// stranded without a list entry, cancelled but not recorded, waiting (2).
func messyLine(t *testing.T, b *box) []string {
	order := b.enqueue(11)
	b.settle(b.claim("confirmed", 1), queue.OpConfirm)
	b.settle(b.claim("failed", 1), queue.OpFail)
	b.settle(b.claim("retried", 2), queue.OpRetry)
	require.NoError(t, b.Cancel(b.ctx, order[3], "user-00004"))
	require.Equal(t, order[3:4], ids(b.claim("cancelled", 1)))
	b.claim("lost", 1)
	b.expire("lost")
	_, _, err := b.Reclaim(b.ctx)
	require.NoError(t, err)
	b.settle(b.claim("solo", 1), queue.OpBack)
	require.Equal(t, order[4:5], b.list("suspect"))
	require.NoError(t, b.rdb.LRem(b.ctx, b.key("suspect"), 0, order[4]).Err())
	b.claim("leased", 2)
	require.NoError(t, b.rdb.LPush(b.ctx, b.key("suspect"), order[4]).Err())
	require.NoError(t, b.rdb.LRem(b.ctx, b.key("wait"), 0, order[7]).Err())
	require.NoError(t, b.Cancel(b.ctx, order[8], "user-00009"))
	return order
}

func TestRebuildLosesNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := messyLine(t, b)
		// The ledger has the first order, one whose worker did not come to settle, and one Redis forgot.
		live := []queue.Ticket{b.ticket(order[0]), confirmed(order[5], "user-00006", 6),
			confirmed("forgotten", "zoe", 12)}
		require.Equal(t, order[2:], b.rebuild(2, live))

		v := b.view()
		require.False(t, v.Rebuilding)
		require.EqualValues(t, []int64{2, 12, 3, 6, 0, 0}, []int64{v.Epoch, v.Seq, v.Waiting, v.Isolated, v.Leased,
			v.Retrying})
		require.EqualValues(t, 5000-3-6, v.Stock) // three orders; q: 2 4 6 7 9 10
		require.Equal(t, order[8:], b.list("wait"))
		require.ElementsMatch(t, order[2:8], b.list("suspect"))
		require.Equal(t, queue.Confirmed, b.ticket("forgotten").State)
		require.Equal(t, queue.Confirmed, b.ticket(order[5]).State, "an order at once, although it is listed")
		require.ErrorIs(t, b.Cancel(b.ctx, order[5], "user-00006"), queue.ErrNotWaiting, "the ledger decides")
		known, _, err := b.Lookup(b.ctx, order[1:2])
		require.NoError(t, err)
		require.Empty(t, known, "what has ended is the database's to answer")
		require.Equal(t, queue.LimitError{OrderID: "forgotten"}, b.refusal("zoe"))
		b.conserved(3)

		for i := range 6 {
			solo := b.claim("solo-"+order[i], 10)
			require.True(t, solo.Solo)
			op := queue.OpConfirm
			if solo.Tickets[0].State == queue.Cancelled {
				op = queue.OpClose
			}
			b.settle(solo, op)
		}
		rest := b.claim("rest", 10)
		require.Equal(t, order[8:], ids(rest))
		b.settle(rest, queue.OpConfirm)
		require.False(t, b.view().InFlight())
		b.conserved(3)
	})
}

// refusal asks for more than the limit allows.
func (b *box) refusal(user string) error {
	r := ask("too-much", user)
	r.Units = 3
	return b.admit(r)[0].Err
}

func TestRebuildAfterTotalLoss(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		b.enqueue(5)
		require.NoError(t, b.rdb.FlushAll(b.ctx).Err())
		live := []queue.Ticket{confirmed("a", "ann", 41), confirmed("b", "bob", 42)}
		require.Empty(t, b.rebuild(2, live))
		next := b.admit(ask("next", "cat"))[0]
		require.EqualValues(t, 43, next.Ticket.Seq)
		require.EqualValues(t, 1, next.Ticket.Position)
		again := b.admit(ask("a", "ann"))[0]
		require.True(t, again.Replayed)
		require.Equal(t, queue.Confirmed, again.Ticket.State)
		b.conserved(3)
	})
}

// Only the head of the line is lost: its tickets are not, and places stay positive.
func TestRebuildWithoutMeta(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(6)
		b.settle(b.claim("b1", 2), queue.OpConfirm)
		live := []queue.Ticket{b.ticket(order[0]), b.ticket(order[1])}
		require.NoError(t, b.rdb.Del(b.ctx, b.key("meta"), b.key("stock")).Err())
		require.Equal(t, order[2:], b.rebuild(2, live))
		require.EqualValues(t, 6, b.view().Seq)
		// An isolated ticket newer than the line is claimed, dies, and moves on what counts as claimed.
		require.NoError(t, b.rdb.Del(b.ctx, b.key("meta"), b.key("stock"), b.key("wait")).Err())
		require.Equal(t, order[2:], b.rebuild(3, live))
		for range 4 {
			b.settle(b.claim(order[0], 1), queue.OpRetry)
		}
		next := b.admit(ask("next", "cat"))[0].Ticket
		require.EqualValues(t, []int64{7, 1}, []int64{next.Seq, next.Position})
		b.conserved(3)
	})
}

func TestNewerRebuildWins(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(3)
		begin := func(epoch int64) bool {
			began, err := b.Begin(b.ctx, epoch)
			require.NoError(t, err)
			return began
		}
		require.True(t, begin(2))
		require.False(t, begin(2))
		old, err := b.Survey(b.ctx, 2)
		require.NoError(t, err)
		require.NoError(t, b.rdb.LRem(b.ctx, b.key("wait"), 0, order[1]).Err())
		require.NoError(t, b.rdb.HSet(b.ctx, b.key("orders"), "stale", "garbage").Err())
		require.True(t, begin(3))
		require.False(t, begin(2))

		before := b.dump()
		require.ErrorIs(t, b.Restore(b.ctx, 2, []queue.Ticket{confirmed("a", "ann", 1)}, old), queue.ErrNotReady)
		s := openSale()
		s.Epoch = 2
		require.ErrorIs(t, b.Reopen(b.ctx, s, queue.Reopened{Stock: 1, Seq: 1}), queue.ErrNotReady)
		require.Equal(t, before, b.dump(), "the older rebuild changed something")

		require.Equal(t, order, b.rebuild(4, nil))
		require.ErrorIs(t, b.Restore(b.ctx, 4, nil, queue.Survey{}), queue.ErrNotReady, "open already")
		require.False(t, begin(4))
		b.conserved(3)
	})
}

// While a line is rebuilt nobody else moves it.
func TestGateRefusesEverything(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(5)
		b.settle(b.claim("confirmed", 1), queue.OpConfirm)
		leased := b.claim("leased", 2)
		_, err := b.Begin(b.ctx, 2)
		require.NoError(t, err)
		require.True(t, b.view().Rebuilding)
		require.True(t, b.snapshot().Rebuilding)
		require.Equal(t, order[1:3], b.list("suspect"))
		before := b.dump()

		for _, epoch := range []int64{1, 2} {
			_, err = b.Admit(b.ctx, epoch, rate, []queue.Request{ask("new", "zoe"), ask(order[0], "user-00001")})
			require.ErrorIs(t, err, queue.ErrNotReady)
			s := openSale()
			s.Epoch, s.Version = epoch, 9
			require.ErrorIs(t, b.Configure(b.ctx, s), queue.ErrNotReady)
		}
		require.Empty(t, b.claim("b2", 10).Tickets)
		require.ErrorIs(t, b.Settle(b.ctx, leased, all(leased, queue.OpConfirm)), queue.ErrFenced)
		require.ErrorIs(t, b.Cancel(b.ctx, order[4], "user-00005"), queue.ErrNotReady)
		require.ErrorIs(t, b.Release(b.ctx, []queue.Ended{{ID: order[0], State: queue.Expired}}, 0), queue.ErrNotReady)
		_, _, err = b.Reclaim(b.ctx)
		require.NoError(t, err)
		_, err = b.Promote(b.ctx, 10)
		require.NoError(t, err)
		require.Equal(t, before, b.dump())
	})
}

// A Redis that crashes keeps the line but admits nobody until somebody has checked it.
func TestRedisCrashClosesAdmission(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	b := newBox(t, server.Addr(), openSale())
	order := b.enqueue(20)
	b.claim("b1", 5)
	before := b.dump()
	server.Kill()
	_, err := b.Admit(b.ctx, 1, rate, []queue.Request{ask("new", "zoe")})
	require.Error(t, err)
	server.Start()

	require.Eventually(t, func() bool { return b.rdb.Ping(b.ctx).Err() == nil }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, before, b.dump(), "what was answered is on disk")
	_, err = b.Admit(b.ctx, 1, rate, []queue.Request{ask("new", "zoe")})
	require.ErrorIs(t, err, queue.ErrNotReady)
	require.Empty(t, b.claim("b2", 5).Tickets, "nothing is drained either")
	require.False(t, b.view().Verified)
	require.Equal(t, order, b.rebuild(2, nil))
	require.True(t, b.view().Verified)
	require.NoError(t, b.admit(ask("new", "zoe"))[0].Err)
	b.conserved(3)
}
