package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// forgetFull lets the room that came back be taken at once: the wait for it is a matter of time,
// and has a test of its own.
func (b *box) forgetFull() {
	b.T.Helper()
	require.NoError(b.T, b.Redis.HDel(b.Ctx, b.Key("meta"), "full").Err())
}

// tryOne asks for one more place.
func (b *box) tryOne() error {
	b.T.Helper()
	b.forgetFull()
	b.tried++
	name := fmt.Sprintf("more-%05d", b.tried)
	return b.MustAdmit(queues.Ask(name, name))[0].Err
}

// The cap bounds what waits, what workers have and what is tried again, together: a batch that
// fails and comes back finds the line no longer than it left it.
func TestTheCapCountsWhatWorkersHave(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		s.Cap = 6
		b := newBox(t, addr, s)
		b.Enqueue(6)
		require.ErrorIs(t, b.tryOne(), queue.ErrFull)
		first := b.MustClaim("b-1", 4)
		require.ErrorIs(t, b.tryOne(), queue.ErrFull, "a worker has four of them")
		require.NoError(t, b.Settle(b.Ctx, first, []queue.Outcome{
			{ID: first.Tickets[0].ID, Op: queue.OpConfirm}, {ID: first.Tickets[1].ID, Op: queue.OpRetry,
				Delay: time.Hour},
			{ID: first.Tickets[2].ID, Op: queue.OpBack}, {ID: first.Tickets[3].ID, Op: queue.OpBack},
		}))
		require.EqualValues(t, 5, b.MustView().Bounded)
		require.NoError(t, b.tryOne(), "one has left the line")
		require.ErrorIs(t, b.tryOne(), queue.ErrFull)
		b.MustClaim("b-2", 1)
		b.EndLease("b-2")
		_, _, err := b.Reclaim(b.Ctx)
		require.NoError(t, err)
		require.ErrorIs(t, b.tryOne(), queue.ErrFull, "an isolated ticket waits, too")
		v := b.MustView()
		require.EqualValues(t, 6, v.Waiting+v.Isolated+v.Retrying)
	})
}

// Who orders and cancels again and again fills the line for nobody, and gets no further place after so many.
func TestCancelledTicketsFillNoLine(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		s.Cap, s.Limit = 20, 1
		b := newBox(t, addr, s)
		b.Lines.BoundCancels(25)
		for i := range 25 {
			id := fmt.Sprintf("cycle-%02d", i)
			require.NoError(t, b.MustAdmit(queues.Ask(id, "ann"))[0].Err)
			require.NoError(t, b.Cancel(b.Ctx, id, "ann"))
		}
		require.ErrorIs(t, b.MustAdmit(queues.Ask("once-more", "ann"))[0].Err, queue.ErrCancels)
		require.NoError(t, b.MustAdmit(queues.Ask("cycle-24", "ann"))[0].Err, "what was answered is repeated")
		b.Enqueue(20)
		require.ErrorIs(t, b.tryOne(), queue.ErrFull)
		require.EqualValues(t, 45, b.MustView().Waiting, "cancelled ones are still to be written down")

		batch := b.MustClaim("b-1", 45)
		var outcomes []queue.Outcome
		for i, ticket := range batch.Tickets {
			op := queue.OpClose
			if ticket.State == queue.Queued {
				op = queue.OpRetry
			}
			outcomes = append(outcomes, queue.Outcome{ID: batch.Tickets[i].ID, Op: op, Delay: time.Hour})
		}
		require.NoError(t, b.Settle(b.Ctx, batch, outcomes))
		require.ErrorIs(t, b.tryOne(), queue.ErrFull, "twenty are tried again")
		require.EqualValues(t, 20, b.MustView().Bounded)

		confirmed := b.enqueueAs("bob")
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: confirmed, State: queue.Cancelled}}, 0))
		cancels, err := b.Redis.HGet(b.Ctx, b.Key("cancels"), "bob").Int()
		require.NoError(t, err)
		require.Equal(t, 1, cancels, "a confirmed order that is cancelled counts too")
	})
}

// enqueueAs gives a user a confirmed order, whatever the cap says, and returns its id.
func (b *box) enqueueAs(user string) string {
	b.T.Helper()
	cap := b.Redis.HGet(b.Ctx, b.Key("meta"), "cap").Val()
	require.NoError(b.T, b.Redis.HSet(b.Ctx, b.Key("meta"), "cap", 1000).Err())
	b.forgetFull()
	require.NoError(b.T, b.MustAdmit(queues.Ask("of-"+user, user))[0].Err)
	b.SettleAll(b.MustClaim("for-"+user, 1), queue.OpConfirm)
	require.NoError(b.T, b.Redis.HSet(b.Ctx, b.Key("meta"), "cap", cap).Err())
	return "of-" + user
}

// An order that is paid before its worker has said a word to the line counts once.
func TestTheCapOfAnOrderThatWasPaidEarly(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(2)[0]
		batch := b.MustClaim("b-1", 1)
		require.NoError(t, b.Pay(b.Ctx, order, time.Now(), time.Now()))
		require.EqualValues(t, 1, b.MustView().Bounded)
		b.SettleAll(batch, queue.OpConfirm)
		require.EqualValues(t, 1, b.MustView().Bounded)
	})
}

// A rebuild counts anew.
func TestTheCapIsExactAfterARebuild(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		s.Cap = 5
		b := newBox(t, addr, s)
		orders := b.Enqueue(5)
		require.NoError(t, b.Cancel(b.Ctx, orders[0], "user-00001"))
		require.NoError(t, b.Cancel(b.Ctx, orders[3], "user-00004"))
		b.MustClaim("b-1", 2)
		began, err := b.Begin(b.Ctx, 2)
		require.NoError(t, err)
		require.True(t, began)
		left, err := b.Survey(b.Ctx, 2)
		require.NoError(t, err)
		require.NoError(t, b.Restore(b.Ctx, 2, nil, left))
		s.Epoch, b.Epoch = 2, 2
		require.NoError(t, b.Reopen(b.Ctx, s, queue.Reopened{Stock: s.Total - 3, Seq: 5, Ended: 2}))
		require.EqualValues(t, 3, b.MustView().Bounded)
		require.NoError(t, b.tryOne())
		require.NoError(t, b.tryOne())
		require.ErrorIs(t, b.tryOne(), queue.ErrFull)
	})
}

// A line is deleted only as it was seen: nobody who was admitted meanwhile goes with it.
func TestALineThatHasChangedIsNotDiscarded(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		seen := b.MustView()
		order := b.Enqueue(1)[0]
		require.NoError(t, b.Discard(b.Ctx, seen, true))
		require.Equal(t, queue.Queued, b.Ticket(order).State)
		b.SettleAll(b.MustClaim("b-1", 1), queue.OpFail)
		require.NoError(t, b.Discard(b.Ctx, seen, true))
		require.True(t, b.MustView().Exists, "its ticket has gone, but was there")
		s := queues.OpenSale()
		s.Version = 2
		seen = b.MustView()
		require.NoError(t, b.Configure(b.Ctx, s))
		require.NoError(t, b.Discard(b.Ctx, seen, true))
		require.True(t, b.MustView().Exists, "the sale was extended")
		require.NoError(t, b.Discard(b.Ctx, b.MustView(), false))
		require.False(t, b.MustView().Exists)
		require.Empty(t, b.dump(), "nothing is left")
	})
}

// Leases and delays that a wrong clock has set are over when it is set right: each is shorter than that.
func TestAClockThatIsSetBackHoldsUpNobody(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		b.Enqueue(3)
		leased, retried := b.MustClaim("b-1", 1), b.MustClaim("b-2", 1)
		b.MustClaim("b-3", 1)
		b.SettleAll(retried, queue.OpRetry)
		b.setBack("retry", retried.Tickets[0].ID)
		n, err := b.Promote(b.Ctx, 10)
		require.NoError(t, err)
		require.EqualValues(t, 1, n, "no delay is as long as an hour")
		b.setBack("lease", leased.ID)
		batches, tickets, err := b.Reclaim(b.Ctx)
		require.NoError(t, err)
		require.EqualValues(t, []int64{1, 1}, []int64{batches, tickets}, "the lease of the third stands")
	})
}

// A cap that is set counts at once, on a line of that epoch only.
func TestSetCap(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		b.Enqueue(3)
		require.NoError(t, b.SetCap(b.Ctx, b.Epoch, 3))
		v, err := b.View(b.Ctx)
		require.NoError(t, err)
		require.EqualValues(t, 3, v.Cap)
		answers, err := b.Admit(b.Ctx, b.Epoch, queues.Rate, []queue.Request{{ID: "late", User: "late", Units: 1,
			Fingerprint: "f"}})
		require.NoError(t, err)
		require.ErrorIs(t, answers[0].Err, queue.ErrFull)
		require.ErrorIs(t, b.SetCap(b.Ctx, b.Epoch+1, 9), queue.ErrNotReady)
		require.ErrorIs(t, b.Lines.Of("nothing").SetCap(b.Ctx, 1, 9), queue.ErrNotReady)
	})
}
