package queue_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
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
	b.t.Helper()
	before := b.dump()
	_, err := b.Admit(b.ctx, b.epoch, rate, []queue.Request{ask("new", "zoe")})
	require.ErrorIs(b.t, err, queue.ErrNotReady, "admit")
	require.Empty(b.t, b.claim("late", 1).Tickets, "claim")
	require.ErrorIs(b.t, b.Cancel(b.ctx, waiting, "user-00010"), queue.ErrNotReady, "cancel")
	require.ErrorIs(b.t, b.Release(b.ctx, []queue.Ended{{ID: waiting, State: queue.Expired}}, 0), queue.ErrNotReady,
		"release")
	_, err = b.Readmit(b.ctx, b.epoch, queue.Ticket{ID: "back", User: "zed", Units: 1, AdmittedAt: time.Now()})
	require.ErrorIs(b.t, err, queue.ErrNotReady, "readmit")
	_, err = b.ReclaimUnit(b.ctx, b.epoch, "again", time.Second,
		queue.Ticket{ID: "paid", User: "zed", Units: 1, AdmittedAt: time.Now()})
	require.ErrorIs(b.t, err, queue.ErrNotReady, "reclaim unit")
	require.ErrorIs(b.t, b.Requeue(b.ctx, waiting), queue.ErrNotReady, "requeue")
	require.ErrorIs(b.t, b.DropDead(b.ctx, waiting), queue.ErrNotReady, "drop")
	require.ErrorIs(b.t, b.Pay(b.ctx, waiting, time.Now(), time.Now()), queue.ErrNotReady, "pay")
	require.ErrorIs(b.t, b.Refund(b.ctx, waiting), queue.ErrNotReady, "refund")
	require.ErrorIs(b.t, b.SetCap(b.ctx, b.epoch, 7), queue.ErrNotReady, "set cap")
	s := openSale()
	s.Epoch, s.Version = b.epoch, 9
	require.ErrorIs(b.t, b.Configure(b.ctx, s), queue.ErrNotReady, "configure")
	require.Equal(b.t, before, b.dump())
}

// The data of an older copy, swapped in under a running server (case S9): nobody sells on them,
// whatever he has seen himself.
func TestDataSwappedUnderARunningServerSellNothing(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	copyOf(t, server) // with its first replica a server begins a history of its own
	b := newBox(t, server.Addr(), openSale())
	order := b.enqueue(10)
	older := copyOf(t, server)
	b.settle(b.claim("b1", 2), queue.OpConfirm)
	swapIn(t, server, older)

	b.nothingMoves(order[9])
	require.False(t, b.view().Verified)
	// Another gateway, which has seen nothing yet, does not sell on them either.
	stranger := newBoxOf(t, server.Addr())
	stranger.nothingMoves(order[9])
	require.False(t, stranger.view().Verified)

	b.rebuild(2, []queue.Ticket{confirmed(order[0], "user-00001", 1), confirmed(order[1], "user-00002", 2)})
	require.True(t, b.view().Verified)
	b.conserved(3)
}

// newBoxOf is a box on a line that exists.
func newBoxOf(t *testing.T, addr string) *box {
	rdb := testkit.ProductClient(t, addr)
	lines := queue.NewLines(rdb, queue.DefaultPrefix)
	return &box{Line: lines.Of("sale"), t: t, ctx: t.Context(), lines: lines, rdb: rdb, epoch: 1}
}

// A planned failover there and back: the old master knows every script still, and has the epoch that counts (case S8).
func TestAnOldMasterThatComesBackSellsNothing(t *testing.T) {
	t.Parallel()
	first, second := testkit.Redis(t), testkit.Redis(t)
	b := newBox(t, first.Addr(), openSale())
	order := b.enqueue(10)
	swapIn(t, second, first) // promoted
	onSecond := newBoxOf(t, second.Addr())
	onSecond.nothingMoves(order[9])
	onSecond.rebuild(2, nil)
	require.NoError(t, onSecond.admit(ask("more", "mia"))[0].Err)

	swapIn(t, first, second)
	b.epoch = 2
	b.nothingMoves(order[9])
	require.False(t, b.view().Verified)
}

// A failover in the middle of a rebuild: what the first half wrote may be lost, so the second half is refused.
func TestARebuildEndsWhereItBegan(t *testing.T) {
	t.Parallel()
	first, second := testkit.Redis(t), testkit.Redis(t)
	b := newBox(t, first.Addr(), openSale())
	b.enqueue(3)
	begun, err := b.Begin(b.ctx, 2)
	require.NoError(t, err)
	require.True(t, begun)
	swapIn(t, second, first)
	other := newBoxOf(t, second.Addr())
	s := openSale()
	s.Epoch = 2
	require.ErrorIs(t, other.Restore(b.ctx, 2, []queue.Ticket{confirmed("a", "ann", 1)}, queue.Survey{}),
		queue.ErrNotReady)
	require.ErrorIs(t, other.Reopen(b.ctx, s, queue.Reopened{Stock: 1, Seq: 1}), queue.ErrNotReady)
	require.True(t, other.view().Rebuilding)
}

// What the server's identity does not show: the same server, with data that are older than what a caller has seen.
func TestALineOlderThanWhatWasSeenSellsNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(10)
		before := b.rdb.HGetAll(b.ctx, b.key("meta")).Val()
		require.NoError(t, b.Cancel(b.ctx, order[8], "user-00009"))
		require.True(t, b.view().Verified)
		require.NoError(t, b.rdb.HSet(b.ctx, b.key("meta"), before).Err())

		_, err := b.Admit(b.ctx, 1, rate, []queue.Request{ask("new", "zoe")})
		require.ErrorIs(t, err, queue.ErrNotReady)
		require.Empty(t, b.claim("late", 1).Tickets)
		require.False(t, b.view().Verified)
		views, failed := b.lines.Views(b.ctx, []string{"sale"})
		require.NoError(t, failed[0])
		require.False(t, views[0].Verified)
		b.rebuild(2, nil)
		require.True(t, b.view().Verified)
		require.NoError(t, b.admit(ask("new", "zoe"))[0].Err)
	})
}

// The line remembers the newest change of the ledger and hands it out with each batch.
func TestALineRemembersTheLedger(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(6)
		first := b.claim("b1", 2)
		require.Zero(t, first.Ledger)
		require.NoError(t, b.Settle(b.ctx, first, []queue.Outcome{
			{ID: order[0], Op: queue.OpConfirm, Ledger: 7}, {ID: order[1], Op: queue.OpConfirm, Ledger: 5}}))
		require.EqualValues(t, 7, b.view().Ledger)
		second := b.claim("b2", 2)
		require.EqualValues(t, 7, second.Ledger)
		require.NoError(t, b.Settle(b.ctx, second, []queue.Outcome{
			{ID: order[2], Op: queue.OpConfirm, Ledger: 6}, {ID: order[3], Op: queue.OpFail}}))
		require.EqualValues(t, 7, b.view().Ledger, "batches settle in any order")
		require.NoError(t, b.Release(b.ctx, []queue.Ended{{ID: order[0], State: queue.Cancelled}}, 9))
		require.EqualValues(t, 9, b.view().Ledger)
	})
}
