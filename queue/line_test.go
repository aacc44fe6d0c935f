package queue_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

func TestClaimIsFirstComeFirstServed(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		require.Empty(t, b.MustClaim("b0", 10).Tickets)
		order := b.Enqueue(25)
		first := b.MustClaim("b1", 10)
		require.Equal(t, order[:10], queues.IDs(first))
		require.False(t, first.Solo)
		require.EqualValues(t, 1, first.Epoch)
		for i, ticket := range first.Tickets {
			require.EqualValues(t, i+1, ticket.Seq)
			require.EqualValues(t, i+1, ticket.Position)
			require.Equal(t, queue.Queued, ticket.State)
			require.Equal(t, ticket.User+"@example.com", ticket.Email)
			require.WithinDuration(t, time.Now(), ticket.AdmittedAt, time.Minute)
		}
		known, claimed, err := b.Lookup(b.Ctx, []string{order[9], order[10], "missing"})
		require.NoError(t, err)
		require.EqualValues(t, 10, claimed)
		require.Len(t, known, 2)
		require.LessOrEqual(t, known[order[9]].Seq, claimed, "it is being processed")
		require.Greater(t, known[order[10]].Seq, claimed, "it waits")

		require.Equal(t, order[10:], queues.IDs(b.MustClaim("b2", 100)))
		v := b.MustView()
		require.EqualValues(t, []int64{25, 25, 0, 2}, []int64{v.Seq, v.Claimed, v.Waiting, v.Leased})
		require.True(t, v.InFlight())
		b.CheckUnits(3)
	})
}

func TestSettleEndsEachTicketAsAsked(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(8)
		require.NoError(t, b.Cancel(b.Ctx, order[3], "user-00004"))
		batch := b.MustClaim("b1", 7)
		require.Equal(t, queue.Cancelled, batch.Tickets[3].State)
		require.NoError(t, b.Settle(b.Ctx, batch, []queue.Outcome{
			{ID: order[0], Op: queue.OpConfirm},
			{ID: order[1], Op: queue.OpFail, Reason: "no\tsuch\nthing" + strings.Repeat("é", 200)},
			{ID: order[2], Op: queue.OpDead, Reason: "gave up"},
			{ID: order[3], Op: queue.OpClose},
			{ID: order[4], Op: queue.OpRetry, Delay: time.Hour},
			{ID: order[5], Op: queue.OpBack},
			{ID: order[6], Op: queue.OpBack},
		}))
		for i, want := range []queue.State{'c', 'f', 'f', 'x', 'q', 'q', 'q', 'q'} {
			ticket := b.Ticket(order[i])
			require.Equal(t, want, ticket.State, "ticket %d", i)
			require.Equal(t, want == 'q', ticket.At.IsZero())
			require.Equal(t, want == 'q', ticket.Email != "", "contacts are kept no longer than needed")
		}
		reason := b.Ticket(order[1]).Reason
		require.True(t, strings.HasPrefix(reason, "no such thingéé"), reason)
		require.LessOrEqual(t, len(reason), 200)
		require.Equal(t, order[5:], b.List("wait"), "what goes back is next again")
		require.Equal(t, []string{order[2]}, b.List("dead"))
		require.Equal(t, []string{order[1], order[3]}, b.List("done"))
		require.Equal(t, map[string]string{order[4]: "1"}, b.Attempts())
		v := b.MustView()
		require.EqualValues(t, []int64{4, 0, 1, 1, 3}, []int64{v.Served, v.Leased, v.Retrying, v.Dead, v.Waiting})
		require.EqualValues(t, 5000-5, v.Stock)
		b.CheckUnits(3)
	})
}

// A worker that comes late changes nothing, wherever its tickets are by now.
func TestSettleIsFenced(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		b.Enqueue(6)
		late := b.MustClaim("late", 5)
		b.EndLease("late")
		fenced := func(when string) {
			t.Helper()
			before := b.dump()
			for _, op := range []queue.Op{queue.OpConfirm, queue.OpFail, queue.OpDead, queue.OpClose, queue.OpRetry,
				queue.OpBack} {
				require.ErrorIs(t, b.Settle(b.Ctx, late, queues.Outcomes(late, op)), queue.ErrFenced, when)
			}
			require.Equal(t, before, b.dump(), when)
		}
		_, _, err := b.Reclaim(b.Ctx)
		require.NoError(t, err)
		fenced("reclaimed")
		other := b.MustClaim("other", 5)
		fenced("with another worker")
		b.SettleAll(other, queue.OpConfirm)
		fenced("ended by another worker")
		late.ID = "never"
		fenced("never leased")
		b.CheckUnits(3)
	})
}

func TestReclaimIsolatesTickets(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(5)
		b.MustClaim("b1", 2)
		b.MustClaim("b2", 2)
		reclaim := func() [2]int64 {
			batches, tickets, err := b.Reclaim(b.Ctx)
			require.NoError(t, err)
			return [2]int64{batches, tickets}
		}
		require.Zero(t, reclaim(), "the leases stand")
		b.EndLease("b2")
		require.Equal(t, [2]int64{1, 2}, reclaim())
		// A batch without a lease is found as well.
		require.NoError(t, b.Redis.ZRem(b.Ctx, b.Key("lease"), "b1").Err())
		require.EqualValues(t, 1, b.MustSnapshot().Unleased)
		require.Equal(t, [2]int64{1, 2}, reclaim())
		require.Zero(t, reclaim())

		require.Equal(t, []string{order[2], order[3], order[0], order[1]}, b.List("suspect"))
		for i, want := range []string{order[2], order[3], order[0], order[1]} {
			solo := b.MustClaim(fmt.Sprint("solo", i), 100)
			require.True(t, solo.Solo)
			require.Equal(t, []string{want}, queues.IDs(solo), "isolated tickets come before others and alone")
			require.Equal(t, 1, solo.Tickets[0].Attempts)
		}
		b.EndLease("solo0")
		reclaim()
		again := b.MustClaim("again", 100)
		require.Equal(t, 2, again.Tickets[0].Attempts)
		b.SettleAll(again, queue.OpBack)
		require.Equal(t, []string{order[2]}, b.List("suspect"), "it stays isolated")
		again = b.MustClaim("again2", 100)
		require.Equal(t, 2, again.Tickets[0].Attempts, "going back counts nothing")
		b.SettleAll(again, queue.OpConfirm)
		require.NotContains(t, b.Attempts(), order[2])
		rest := b.MustClaim("rest", 100)
		require.False(t, rest.Solo)
		require.Equal(t, order[4:], queues.IDs(rest))
		b.CheckUnits(3)
	})
}

func TestPromoteReturnsWhatIsDue(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(3)
		b.SettleAll(b.MustClaim("b1", 3), queue.OpRetry)
		promote := func(n int) int64 {
			moved, err := b.Promote(b.Ctx, n)
			require.NoError(t, err)
			return moved
		}
		require.Zero(t, promote(10), "an hour is left")
		require.Empty(t, b.MustClaim("b2", 10).Tickets)
		b.EndDelay(order[0])
		b.EndDelay(order[1])
		require.EqualValues(t, 1, promote(1))
		require.EqualValues(t, 1, promote(10))
		solo := b.MustClaim("b3", 10)
		require.Equal(t, order[:1], queues.IDs(solo))
		require.Equal(t, 1, solo.Tickets[0].Attempts)
		b.CheckUnits(3)
	})
}

// Whatever cannot be read as a ticket neither holds up nor harms its batch-mates.
func TestUnreadableTicketsLeaveTheLine(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(2)
		broken := map[string]string{"none": "", "garbage": "garbage", "queued": "q", "short": "q\t1\t1",
			"letters": "q\tx\ty\tz\tu\t1\tf\t1\t1\t\t\t\t", "many": strings.Repeat("q\t", 20)}
		for id, record := range broken {
			if record != "" {
				require.NoError(t, b.Redis.HSet(b.Ctx, b.Key("orders"), id, record).Err())
			}
			require.NoError(t, b.Redis.RPush(b.Ctx, b.Key("wait"), id).Err())
		}
		batch := b.MustClaim("b1", 100)
		require.Equal(t, order, queues.IDs(batch))
		require.Len(t, batch.Poisoned, len(broken))
		outcomes := queues.Outcomes(batch, queue.OpConfirm)
		for _, p := range batch.Poisoned {
			require.Contains(t, broken, p.ID)
			require.ErrorContains(t, p.Err, p.ID)
			outcomes = append(outcomes, queue.Outcome{ID: p.ID, Op: queue.OpDead, Reason: "unreadable"})
		}
		require.NoError(t, b.Settle(b.Ctx, batch, outcomes))
		for _, id := range order {
			require.Equal(t, queue.Confirmed, b.Ticket(id).State)
		}
		require.Len(t, b.List("dead"), len(broken))
		require.False(t, b.MustView().InFlight())
		require.EqualValues(t, 5000-2, b.MustView().Stock)
	})
}

func TestFinishedOrdersAreKeptInBounds(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		old := func(list string, n int) {
			names, records := make([]any, n), make([]any, 0, 2*n)
			for i := range n {
				names[i] = fmt.Sprint(list, i) // 0 is the newest
				records = append(records, names[i], fmt.Sprintf("f\t%d\t1\t1\told\t1\tp\t1\t1\t1\twhy\t\t", i+1))
			}
			require.NoError(t, b.Redis.RPush(b.Ctx, b.Key(list), names...).Err())
			require.NoError(t, b.Redis.HSet(b.Ctx, b.Key("orders"), records...).Err())
		}
		old("done", queue.KeepDone-1)
		old("dead", queue.KeepDead-1)
		order := b.Enqueue(6)
		b.SettleAll(b.MustClaim("b1", 3), queue.OpDead)
		b.SettleAll(b.MustClaim("b2", 2), queue.OpFail)
		b.SettleAll(b.MustClaim("b3", 1), queue.OpConfirm)
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: order[5], State: queue.Expired}}, 0))

		require.EqualValues(t, queue.KeepDead, b.Redis.LLen(b.Ctx, b.Key("dead")).Val())
		require.EqualValues(t, queue.KeepDone, b.Redis.LLen(b.Ctx, b.Key("done")).Val())
		require.EqualValues(t, queue.KeepDone+queue.KeepDead, b.Redis.HLen(b.Ctx, b.Key("orders")).Val(),
			"records go with their list entries")
		for _, id := range order {
			b.Ticket(id)
		}
		_, err := b.Redis.HGet(b.Ctx, b.Key("orders"), fmt.Sprint("done", queue.KeepDone-2)).Result()
		require.ErrorIs(t, err, redis.Nil, "the oldest is forgotten first")
	})
}

func TestNewsReachesListeners(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		stop := make(chan struct{})
		ctx, cancel := context.WithCancel(b.Ctx)
		defer func() { cancel(); <-stop }()
		heard := make(chan queue.Event, 100)
		go func() {
			defer close(stop)
			b.Lines.Listen(ctx, func(n queue.Event) { heard <- n })
		}()
		require.Eventually(t, func() bool {
			return b.Redis.PubSubNumSub(b.Ctx,
				"sluice:status").Val()["sluice:status"] == 1
		}, 5*time.Second, time.Millisecond)
		order := b.Enqueue(3)
		require.NoError(t, b.Cancel(b.Ctx, order[2], "user-00003"))
		b.SettleAll(b.MustClaim("b1", 1), queue.OpConfirm)
		b.SettleAll(b.MustClaim("b2", 1), queue.OpFail)
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: order[0], State: queue.Expired}}, 0))
		for _, want := range []queue.Event{{Sale: "sale", OrderID: order[2], State: 'x'},
			{Sale: "sale", OrderID: order[0], State: 'c'},
			{Sale: "sale", OrderID: order[1], State: 'f'}, {Sale: "sale", OrderID: order[0], State: 'e'}} {
			select {
			case got := <-heard:
				require.Equal(t, want, got)
			case <-time.After(5 * time.Second):
				require.Fail(t, "no news", "%v", want)
			}
		}
	})
}
