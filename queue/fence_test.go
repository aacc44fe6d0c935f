package queue_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// swapIn makes a running server take over what another holds, as a promoted replica or a restored copy does.
func swapIn(t *testing.T, server, copied *testkit.RedisServer) {
	t.Helper()
	host, port, err := net.SplitHostPort(copied.Addr())
	require.NoError(t, err)
	rdb := server.Client()
	require.NoError(t, rdb.Do(t.Context(), "REPLICAOF", host, port).Err())
	follow(t, server)
	require.NoError(t, rdb.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
}

// follow waits until a replica has what its master had.
func follow(t *testing.T, replica *testkit.RedisServer) {
	t.Helper()
	rdb := replica.Client()
	require.Eventually(t, func() bool {
		info := rdb.Info(t.Context(), "replication").Val()
		return strings.Contains(info, "master_link_status:up") && strings.Contains(info, "master_sync_in_progress:0")
	}, 30*time.Second, 10*time.Millisecond)
}

// copyOf is another server with what a line's server holds now.
func copyOf(t *testing.T, server *testkit.RedisServer) *testkit.RedisServer {
	t.Helper()
	copied := testkit.Redis(t)
	swapIn(t, copied, server)
	return copied
}

// nothingMoves shows that a line neither takes nor gives anything.
func (b *box) nothingMoves(waiting string) {
	b.T.Helper()
	before := b.dump()
	_, err := b.Admit(b.Ctx, b.Epoch, queues.Rate, []queue.Request{queues.Ask("new", "zoe")})
	require.ErrorIs(b.T, err, queue.ErrNotReady, "admit")
	require.Empty(b.T, b.MustClaim("late", 1).Tickets, "claim")
	require.ErrorIs(b.T, b.Cancel(b.Ctx, waiting, "user-00010"), queue.ErrNotReady, "cancel")
	require.ErrorIs(b.T, b.Release(b.Ctx, []queue.Ended{{ID: waiting, State: queue.Expired}}, 0), queue.ErrNotReady,
		"release")
	_, err = b.Readmit(b.Ctx, b.Epoch, queue.Ticket{ID: "back", User: "zed", Units: 1, AdmittedAt: time.Now()})
	require.ErrorIs(b.T, err, queue.ErrNotReady, "readmit")
	_, err = b.ReclaimUnit(b.Ctx, b.Epoch, "again", time.Second,
		queue.Ticket{ID: "paid", User: "zed", Units: 1, AdmittedAt: time.Now()})
	require.ErrorIs(b.T, err, queue.ErrNotReady, "reclaim unit")
	require.ErrorIs(b.T, b.Requeue(b.Ctx, waiting), queue.ErrNotReady, "requeue")
	require.ErrorIs(b.T, b.DropDead(b.Ctx, waiting), queue.ErrNotReady, "drop")
	require.ErrorIs(b.T, b.Pay(b.Ctx, waiting, time.Now(), time.Now()), queue.ErrNotReady, "pay")
	require.ErrorIs(b.T, b.Refund(b.Ctx, waiting), queue.ErrNotReady, "refund")
	require.ErrorIs(b.T, b.SetCap(b.Ctx, b.Epoch, 7), queue.ErrNotReady, "set cap")
	s := queues.OpenSale()
	s.Epoch, s.Version = b.Epoch, 9
	require.ErrorIs(b.T, b.Configure(b.Ctx, s), queue.ErrNotReady, "configure")
	require.Equal(b.T, before, b.dump())
}

// The data of an older copy, swapped in under a running server (case S9): nobody sells on them,
// whatever he has seen himself.
func TestDataSwappedUnderARunningServerSellNothing(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	copyOf(t, server) // with its first replica a server begins a history of its own
	b := newBox(t, server.Addr(), queues.OpenSale())
	order := b.Enqueue(10)
	older := copyOf(t, server)
	b.SettleAll(b.MustClaim("b1", 2), queue.OpConfirm)
	swapIn(t, server, older)

	b.nothingMoves(order[9])
	require.False(t, b.MustView().Verified)
	// Another gateway, which has seen nothing yet, does not sell on them either.
	stranger := newBoxOf(t, server.Addr())
	stranger.nothingMoves(order[9])
	require.False(t, stranger.MustView().Verified)

	b.Rebuild(2, []queue.Ticket{queues.Confirmed(order[0], "user-00001", 1),
		queues.Confirmed(order[1], "user-00002", 2)})
	require.True(t, b.MustView().Verified)
	b.CheckUnits(3)
}

// newBoxOf is a box on a line that exists.
func newBoxOf(t *testing.T, addr string) *box {
	return &box{Bench: queues.On(t, testkit.ProductClient(t, addr), "sale")}
}

// A planned failover there and back: the old master knows every script still, and has the epoch that counts (case S8).
func TestAnOldMasterThatComesBackSellsNothing(t *testing.T) {
	t.Parallel()
	first, second := testkit.Redis(t), testkit.Redis(t)
	b := newBox(t, first.Addr(), queues.OpenSale())
	order := b.Enqueue(10)
	swapIn(t, second, first) // promoted
	onSecond := newBoxOf(t, second.Addr())
	onSecond.nothingMoves(order[9])
	onSecond.Rebuild(2, nil)
	require.NoError(t, onSecond.MustAdmit(queues.Ask("more", "mia"))[0].Err)

	swapIn(t, first, second)
	b.Epoch = 2
	b.nothingMoves(order[9])
	require.False(t, b.MustView().Verified)
}

// A failover in the middle of a rebuild: what the first half wrote may be lost, so the second half is refused.
func TestARebuildEndsWhereItBegan(t *testing.T) {
	t.Parallel()
	first, second := testkit.Redis(t), testkit.Redis(t)
	b := newBox(t, first.Addr(), queues.OpenSale())
	b.Enqueue(3)
	begun, err := b.Begin(b.Ctx, 2)
	require.NoError(t, err)
	require.True(t, begun)
	swapIn(t, second, first)
	other := newBoxOf(t, second.Addr())
	s := queues.OpenSale()
	s.Epoch = 2
	require.ErrorIs(t, other.Restore(b.Ctx, 2, []queue.Ticket{queues.Confirmed("a", "ann", 1)}, queue.Survey{}),
		queue.ErrNotReady)
	require.ErrorIs(t, other.Reopen(b.Ctx, s, queue.Reopened{Stock: 1, Seq: 1}), queue.ErrNotReady)
	require.True(t, other.MustView().Rebuilding)
}

// What the server's identity does not show: the same server, with data that are older than what a caller has seen.
func TestALineOlderThanWhatWasSeenSellsNothing(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(10)
		before := b.Redis.HGetAll(b.Ctx, b.Key("meta")).Val()
		require.NoError(t, b.Cancel(b.Ctx, order[8], "user-00009"))
		require.True(t, b.MustView().Verified)
		require.NoError(t, b.Redis.HSet(b.Ctx, b.Key("meta"), before).Err())

		_, err := b.Admit(b.Ctx, 1, queues.Rate, []queue.Request{queues.Ask("new", "zoe")})
		require.ErrorIs(t, err, queue.ErrNotReady)
		require.Empty(t, b.MustClaim("late", 1).Tickets)
		require.False(t, b.MustView().Verified)
		views, failed := b.Lines.Views(b.Ctx, []string{"sale"})
		require.NoError(t, failed[0])
		require.False(t, views[0].Verified)
		b.Rebuild(2, nil)
		require.True(t, b.MustView().Verified)
		require.NoError(t, b.MustAdmit(queues.Ask("new", "zoe"))[0].Err)
	})
}

// The line remembers the newest change of the ledger and hands it out with each batch.
func TestALineRemembersTheLedger(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(6)
		first := b.MustClaim("b1", 2)
		require.Zero(t, first.Ledger)
		require.NoError(t, b.Settle(b.Ctx, first, []queue.Outcome{
			{ID: order[0], Op: queue.OpConfirm, Ledger: 7}, {ID: order[1], Op: queue.OpConfirm, Ledger: 5}}))
		require.EqualValues(t, 7, b.MustView().Ledger)
		second := b.MustClaim("b2", 2)
		require.EqualValues(t, 7, second.Ledger)
		require.NoError(t, b.Settle(b.Ctx, second, []queue.Outcome{
			{ID: order[2], Op: queue.OpConfirm, Ledger: 6}, {ID: order[3], Op: queue.OpFail}}))
		require.EqualValues(t, 7, b.MustView().Ledger, "batches settle in any order")
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: order[0], State: queue.Cancelled}}, 9))
		require.EqualValues(t, 9, b.MustView().Ledger)
	})
}
