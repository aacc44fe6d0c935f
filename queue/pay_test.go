package queue_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// confirm settles n new tickets as confirmed, to be paid by then.
func (b *box) confirm(n int, by time.Time) []string {
	b.T.Helper()
	order := b.Enqueue(n)
	batch := b.MustClaim(order[0]+" confirmed", n)
	outcomes := queues.Outcomes(batch, queue.OpConfirm)
	for i := range outcomes {
		outcomes[i].Pay = by
	}
	require.NoError(b.T, b.Settle(b.Ctx, batch, outcomes))
	return order
}

func TestOverdueIsHandedOutOnce(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		past, future := time.Now().Add(-time.Minute).Truncate(time.Millisecond), time.Now().Add(time.Hour).
			Truncate(time.Millisecond)
		due, later := b.confirm(3, past), b.confirm(1, future)
		b.confirm(1, time.Time{})
		require.True(t, b.Ticket(due[0]).PayBy.Equal(past))
		require.True(t, b.Ticket(later[0]).PayBy.Equal(future))
		two, err := b.Overdue(b.Ctx, 2, time.Hour)
		require.NoError(t, err)
		require.EqualValues(t, 4, two.Unpaid)
		require.WithinDuration(t, time.Now(), two.Now, time.Minute)
		third, err := b.Overdue(b.Ctx, 10, 0)
		require.NoError(t, err)
		require.ElementsMatch(t, due, append(two.IDs, third.IDs...), "each to one caller")
		again, err := b.Overdue(b.Ctx, 10, time.Hour)
		require.NoError(t, err)
		require.Equal(t, third.IDs, again.IDs, "its lease was over at once")

		require.NoError(t, b.Pay(b.Ctx, due[0], past, past))
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: due[1], State: queue.Expired}}, 0))
		require.NoError(t, b.Undue(b.Ctx, due[2:]))
		require.NoError(t, b.Postpone(b.Ctx, due[0], future), "a paid order gets no deadline")
		require.NoError(t, b.Postpone(b.Ctx, later[0], past))
		members, err := b.Redis.ZRangeWithScores(b.Ctx, b.Key("due"), 0, -1).Result()
		require.NoError(t, err)
		require.Equal(t, []redis.Z{{Score: float64(past.UnixMilli()), Member: later[0]}}, members)
	})
}

func TestPayShowsConfirmedAndRunningOrders(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		at := time.UnixMilli(1_800_000_000_000).UTC()
		confirmed := b.confirm(1, at)[0]
		running := b.Enqueue(1)[0]
		batch := b.MustClaim("running", 1)
		for range 2 {
			for _, id := range []string{confirmed, running, "missing"} {
				require.NoError(t, b.Pay(b.Ctx, id, at, at.Add(time.Second)))
			}
		}
		for _, id := range []string{confirmed, running} {
			paid := b.Ticket(id)
			require.Equal(t, queue.Paid, paid.State)
			require.Equal(t, at, paid.At)
			require.Equal(t, at.Add(time.Second), paid.PaidAt)
			require.Empty(t, paid.Email)
		}
		b.SettleAll(batch, queue.OpConfirm) // its worker comes later
		require.Equal(t, queue.Paid, b.Ticket(running).State)
		unpaid, err := b.Unpaid(b.Ctx)
		require.NoError(t, err)
		require.Zero(t, unpaid)
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: confirmed, State: queue.Expired}}, 0))
		require.Equal(t, queue.Paid, b.Ticket(confirmed).State, "a paid order is never brought back")
		require.EqualValues(t, 5000-2, b.MustView().Stock)
		began, err := b.Begin(b.Ctx, 2)
		require.NoError(t, err)
		require.True(t, began)
		require.ErrorIs(t, b.Pay(b.Ctx, confirmed, at, at), queue.ErrNotReady)
	})
}

func TestReviveIsASaleOfItsOwn(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		settings := queues.OpenSale()
		settings.Total, settings.Limit = 2, 1
		b := newBox(t, addr, settings)
		one := b.confirm(1, time.Now())[0]
		ticket := b.Ticket(one)
		revive := func(epoch int64, want error) queue.ReclaimedUnit {
			t.Helper()
			before := b.dump()
			r, err := b.ReclaimUnit(b.Ctx, epoch, "late", queues.Long, ticket)
			require.ErrorIs(t, err, want)
			if want != nil {
				require.Equal(t, before, b.dump(), "a refusal changes nothing")
			}
			return r
		}
		revive(1, queue.ErrBusy) // it has not come back yet
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: one, State: queue.Expired}}, 0))
		revive(2, queue.ErrNotReady)

		r := revive(1, nil)
		require.EqualValues(t, 2, r.Mark)
		require.Equal(t, 1, r.Slot)
		require.EqualValues(t, 1, b.MustView().Stock)
		require.ErrorIs(t, b.Cancel(b.Ctx, one, ticket.User), queue.ErrBusy)
		snap, err := b.Snapshot(b.Ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]int64{one: 1}, snap.InFlight)
		revive(1, queue.ErrBusy)
		require.NoError(t, b.Settle(b.Ctx, r.Batch, []queue.Outcome{{ID: one, Op: queue.OpEnded,
			State: queue.Expired}}))
		require.EqualValues(t, 2, b.MustView().Stock)
		require.Empty(t, b.held(ticket.User))

		other := b.MustAdmit(queues.Ask("other", ticket.User))[0]
		require.NoError(t, other.Err)
		revive(1, queue.ErrHeld)
		require.NoError(t, b.Cancel(b.Ctx, "other", ticket.User))
		require.NoError(t, b.MustAdmit(queues.Ask("x", "x"))[0].Err)
		require.NoError(t, b.MustAdmit(queues.Ask("y", "y"))[0].Err)
		revive(1, queue.ErrSoldOut)
		require.NoError(t, b.Cancel(b.Ctx, "y", "y"))

		// Its record may have been forgotten meanwhile.
		require.NoError(t, b.Redis.HDel(b.Ctx, b.Key("orders"), one).Err())
		r = revive(1, nil)
		require.NoError(t, b.Settle(b.Ctx, r.Batch, []queue.Outcome{{ID: one, Op: queue.OpPaid, At: time.Now(),
			Pay: time.Now()}}))
		require.Equal(t, queue.Paid, b.Ticket(one).State)
		require.Zero(t, b.MustView().Stock)
		revive(1, queue.ErrNotWaiting)
	})
}

// Records of the version before have no locale and no deadline.
func TestOlderRecordsAreRead(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		id := b.Enqueue(1)[0]
		text, err := b.Redis.HGet(b.Ctx, b.Key("orders"), id).Result()
		require.NoError(t, err)
		require.NoError(t, b.Redis.HSet(b.Ctx, b.Key("orders"), id, text[:len(text)-2]).Err())
		batch := b.MustClaim("old", 1)
		require.Empty(t, batch.Poisoned)
		b.SettleAll(batch, queue.OpConfirm)
		require.Equal(t, queue.Confirmed, b.Ticket(id).State)
	})
}
