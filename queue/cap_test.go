package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

// forgetFull lets the room that came back be taken at once: the wait for it is a matter of time,
// and has a test of its own.
func (b *box) forgetFull() {
	b.t.Helper()
	require.NoError(b.t, b.rdb.HDel(b.ctx, b.key("meta"), "full").Err())
}

// tryOne asks for one more place.
func (b *box) tryOne() error {
	b.t.Helper()
	b.forgetFull()
	b.count++
	return b.admit(ask(fmt.Sprintf("more-%05d", b.count), fmt.Sprintf("more-%05d", b.count)))[0].Err
}

// The cap bounds what waits, what workers have and what is tried again, together: a batch that
// fails and comes back finds the line no longer than it left it.
func TestTheCapCountsWhatWorkersHave(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		s := openSale()
		s.Cap = 6
		b := newBox(t, addr, s)
		b.enqueue(6)
		require.ErrorIs(t, b.tryOne(), queue.ErrFull)
		first := b.claim("b-1", 4)
		require.ErrorIs(t, b.tryOne(), queue.ErrFull, "a worker has four of them")
		require.NoError(t, b.Settle(b.ctx, first, []queue.Outcome{
			{ID: first.Tickets[0].ID, Op: queue.OpConfirm}, {ID: first.Tickets[1].ID, Op: queue.OpRetry,
				Delay: time.Hour},
			{ID: first.Tickets[2].ID, Op: queue.OpBack}, {ID: first.Tickets[3].ID, Op: queue.OpBack},
		}))
		require.EqualValues(t, 5, b.view().Bounded)
		require.NoError(t, b.tryOne(), "one has left the line")
		require.ErrorIs(t, b.tryOne(), queue.ErrFull)
		b.claim("b-2", 1)
		b.expire("b-2")
		_, _, err := b.Reclaim(b.ctx)
		require.NoError(t, err)
		require.ErrorIs(t, b.tryOne(), queue.ErrFull, "an isolated ticket waits, too")
		v := b.view()
		require.EqualValues(t, 6, v.Waiting+v.Isolated+v.Retrying)
	})
}

// Who orders and cancels again and again fills the line for nobody, and gets no further place after so many.
func TestCancelledTicketsFillNoLine(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		s := openSale()
		s.Cap, s.Limit = 20, 1
		b := newBox(t, addr, s)
		b.lines.BoundCancels(25)
		for i := range 25 {
			id := fmt.Sprintf("cycle-%02d", i)
			require.NoError(t, b.admit(ask(id, "ann"))[0].Err)
			require.NoError(t, b.Cancel(b.ctx, id, "ann"))
		}
		require.ErrorIs(t, b.admit(ask("once-more", "ann"))[0].Err, queue.ErrCancels)
		require.NoError(t, b.admit(ask("cycle-24", "ann"))[0].Err, "what was answered is repeated")
		b.enqueue(20)
		require.ErrorIs(t, b.tryOne(), queue.ErrFull)
		require.EqualValues(t, 45, b.view().Waiting, "cancelled ones are still to be written down")

		batch := b.claim("b-1", 45)
		var outcomes []queue.Outcome
		for i, ticket := range batch.Tickets {
			op := queue.OpClose
			if ticket.State == queue.Queued {
				op = queue.OpRetry
			}
			outcomes = append(outcomes, queue.Outcome{ID: batch.Tickets[i].ID, Op: op, Delay: time.Hour})
		}
		require.NoError(t, b.Settle(b.ctx, batch, outcomes))
		require.ErrorIs(t, b.tryOne(), queue.ErrFull, "twenty are tried again")
		require.EqualValues(t, 20, b.view().Bounded)

		confirmed := b.enqueueAs("bob")
		require.NoError(t, b.Release(b.ctx, []queue.Ended{{ID: confirmed, State: queue.Cancelled}}, 0))
		cancels, err := b.rdb.HGet(b.ctx, b.key("cancels"), "bob").Int()
		require.NoError(t, err)
		require.Equal(t, 1, cancels, "a confirmed order that is cancelled counts too")
	})
}

// enqueueAs gives a user a confirmed order, whatever the cap says, and returns its id.
func (b *box) enqueueAs(user string) string {
	b.t.Helper()
	cap := b.rdb.HGet(b.ctx, b.key("meta"), "cap").Val()
	require.NoError(b.t, b.rdb.HSet(b.ctx, b.key("meta"), "cap", 1000).Err())
	b.forgetFull()
	require.NoError(b.t, b.admit(ask("of-"+user, user))[0].Err)
	b.settle(b.claim("for-"+user, 1), queue.OpConfirm)
	require.NoError(b.t, b.rdb.HSet(b.ctx, b.key("meta"), "cap", cap).Err())
	return "of-" + user
}

// An order that is paid before its worker has said a word to the line counts once.
func TestTheCapOfAnOrderThatWasPaidEarly(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(2)[0]
		batch := b.claim("b-1", 1)
		require.NoError(t, b.Pay(b.ctx, order, time.Now(), time.Now()))
		require.EqualValues(t, 1, b.view().Bounded)
		b.settle(batch, queue.OpConfirm)
		require.EqualValues(t, 1, b.view().Bounded)
	})
}

// A rebuild counts anew.
func TestTheCapIsExactAfterARebuild(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		s := openSale()
		s.Cap = 5
		b := newBox(t, addr, s)
		orders := b.enqueue(5)
		require.NoError(t, b.Cancel(b.ctx, orders[0], "user-00001"))
		require.NoError(t, b.Cancel(b.ctx, orders[3], "user-00004"))
		b.claim("b-1", 2)
		began, err := b.Begin(b.ctx, 2)
		require.NoError(t, err)
		require.True(t, began)
		left, err := b.Survey(b.ctx, 2)
		require.NoError(t, err)
		require.NoError(t, b.Restore(b.ctx, 2, nil, left))
		s.Epoch, b.epoch = 2, 2
		require.NoError(t, b.Reopen(b.ctx, s, queue.Reopened{Stock: s.Total - 3, Seq: 5, Ended: 2}))
		require.EqualValues(t, 3, b.view().Bounded)
		require.NoError(t, b.tryOne())
		require.NoError(t, b.tryOne())
		require.ErrorIs(t, b.tryOne(), queue.ErrFull)
	})
}

// A line is deleted only as it was seen: nobody who was admitted meanwhile goes with it.
func TestALineThatHasChangedIsNotDiscarded(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		seen := b.view()
		order := b.enqueue(1)[0]
		require.NoError(t, b.Discard(b.ctx, seen, true))
		require.Equal(t, queue.Queued, b.ticket(order).State)
		b.settle(b.claim("b-1", 1), queue.OpFail)
		require.NoError(t, b.Discard(b.ctx, seen, true))
		require.True(t, b.view().Exists, "its ticket has gone, but was there")
		s := openSale()
		s.Version = 2
		seen = b.view()
		require.NoError(t, b.Configure(b.ctx, s))
		require.NoError(t, b.Discard(b.ctx, seen, true))
		require.True(t, b.view().Exists, "the sale was extended")
		require.NoError(t, b.Discard(b.ctx, b.view(), false))
		require.False(t, b.view().Exists)
		require.Empty(t, b.dump(), "nothing is left")
	})
}

// Leases and delays that a wrong clock has set are over when it is set right: each is shorter than that.
func TestAClockThatIsSetBackHoldsUpNobody(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		b.enqueue(3)
		leased, retried := b.claim("b-1", 1), b.claim("b-2", 1)
		b.claim("b-3", 1)
		b.settle(retried, queue.OpRetry)
		b.setBack("retry", retried.Tickets[0].ID)
		n, err := b.Promote(b.ctx, 10)
		require.NoError(t, err)
		require.EqualValues(t, 1, n, "no delay is as long as an hour")
		b.setBack("lease", leased.ID)
		batches, tickets, err := b.Reclaim(b.ctx)
		require.NoError(t, err)
		require.EqualValues(t, []int64{1, 1}, []int64{batches, tickets}, "the lease of the third stands")
	})
}

// A cap that is set counts at once, on a line of that epoch only.
func TestSetCap(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		b.enqueue(3)
		require.NoError(t, b.SetCap(b.ctx, b.epoch, 3))
		v, err := b.View(b.ctx)
		require.NoError(t, err)
		require.EqualValues(t, 3, v.Cap)
		answers, err := b.Admit(b.ctx, b.epoch, rate, []queue.Request{{ID: "late", User: "late", Units: 1,
			Fingerprint: "f"}})
		require.NoError(t, err)
		require.ErrorIs(t, answers[0].Err, queue.ErrFull)
		require.ErrorIs(t, b.SetCap(b.ctx, b.epoch+1, 9), queue.ErrNotReady)
		require.ErrorIs(t, b.lines.Of("nothing").SetCap(b.ctx, 1, 9), queue.ErrNotReady)
	})
}
