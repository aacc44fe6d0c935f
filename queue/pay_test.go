package queue_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/queue"
)

// confirm settles n new tickets as confirmed, to be paid by then.
func (b *box) confirm(n int, by time.Time) []string {
	b.t.Helper()
	order := b.enqueue(n)
	batch := b.claim(order[0]+" confirmed", n)
	outcomes := all(batch, queue.OpConfirm)
	for i := range outcomes {
		outcomes[i].Pay = by
	}
	require.NoError(b.t, b.Settle(b.ctx, batch, outcomes))
	return order
}

func TestOverdueIsHandedOutOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		past, future := time.Now().Add(-time.Minute).Truncate(time.Millisecond), time.Now().Add(time.Hour).
			Truncate(time.Millisecond)
		due, later := b.confirm(3, past), b.confirm(1, future)
		b.confirm(1, time.Time{})
		require.True(t, b.ticket(due[0]).PayBy.Equal(past))
		require.True(t, b.ticket(later[0]).PayBy.Equal(future))
		two, err := b.Overdue(b.ctx, 2, time.Hour)
		require.NoError(t, err)
		require.EqualValues(t, 4, two.Unpaid)
		require.WithinDuration(t, time.Now(), two.Now, time.Minute)
		third, err := b.Overdue(b.ctx, 10, 0)
		require.NoError(t, err)
		require.ElementsMatch(t, due, append(two.IDs, third.IDs...), "each to one caller")
		again, err := b.Overdue(b.ctx, 10, time.Hour)
		require.NoError(t, err)
		require.Equal(t, third.IDs, again.IDs, "its lease was over at once")

		require.NoError(t, b.Pay(b.ctx, due[0], past, past))
		require.NoError(t, b.Release(b.ctx, []queue.Ended{{ID: due[1], State: queue.Expired}}, 0))
		require.NoError(t, b.Undue(b.ctx, due[2:]))
		require.NoError(t, b.Postpone(b.ctx, due[0], future), "a paid order gets no deadline")
		require.NoError(t, b.Postpone(b.ctx, later[0], past))
		members, err := b.rdb.ZRangeWithScores(b.ctx, b.key("due"), 0, -1).Result()
		require.NoError(t, err)
		require.Equal(t, []redis.Z{{Score: float64(past.UnixMilli()), Member: later[0]}}, members)
	})
}

func TestPayShowsConfirmedAndRunningOrders(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		at := time.UnixMilli(1_800_000_000_000).UTC()
		confirmed := b.confirm(1, at)[0]
		running := b.enqueue(1)[0]
		batch := b.claim("running", 1)
		for range 2 {
			for _, id := range []string{confirmed, running, "missing"} {
				require.NoError(t, b.Pay(b.ctx, id, at, at.Add(time.Second)))
			}
		}
		for _, id := range []string{confirmed, running} {
			paid := b.ticket(id)
			require.Equal(t, queue.Paid, paid.State)
			require.Equal(t, at, paid.At)
			require.Equal(t, at.Add(time.Second), paid.PaidAt)
			require.Empty(t, paid.Email)
		}
		b.settle(batch, queue.OpConfirm) // its worker comes later
		require.Equal(t, queue.Paid, b.ticket(running).State)
		unpaid, err := b.Unpaid(b.ctx)
		require.NoError(t, err)
		require.Zero(t, unpaid)
		require.NoError(t, b.Release(b.ctx, []queue.Ended{{ID: confirmed, State: queue.Expired}}, 0))
		require.Equal(t, queue.Paid, b.ticket(confirmed).State, "a paid order is never brought back")
		require.EqualValues(t, 5000-2, b.view().Stock)
		began, err := b.Begin(b.ctx, 2)
		require.NoError(t, err)
		require.True(t, began)
		require.ErrorIs(t, b.Pay(b.ctx, confirmed, at, at), queue.ErrNotReady)
	})
}

func TestReviveIsASaleOfItsOwn(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		settings := openSale()
		settings.Total, settings.Limit = 2, 1
		b := newBox(t, addr, settings)
		one := b.confirm(1, time.Now())[0]
		ticket := b.ticket(one)
		revive := func(epoch int64, want error) queue.ReclaimedUnit {
			t.Helper()
			before := b.dump()
			r, err := b.ReclaimUnit(b.ctx, epoch, "late", long, ticket)
			require.ErrorIs(t, err, want)
			if want != nil {
				require.Equal(t, before, b.dump(), "a refusal changes nothing")
			}
			return r
		}
		revive(1, queue.ErrBusy) // it has not come back yet
		require.NoError(t, b.Release(b.ctx, []queue.Ended{{ID: one, State: queue.Expired}}, 0))
		revive(2, queue.ErrNotReady)

		r := revive(1, nil)
		require.EqualValues(t, 2, r.Mark)
		require.Equal(t, 1, r.Slot)
		require.EqualValues(t, 1, b.view().Stock)
		require.ErrorIs(t, b.Cancel(b.ctx, one, ticket.User), queue.ErrBusy)
		snap, err := b.Snapshot(b.ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]int64{one: 1}, snap.InFlight)
		revive(1, queue.ErrBusy)
		require.NoError(t, b.Settle(b.ctx, r.Batch, []queue.Outcome{{ID: one, Op: queue.OpEnded,
			State: queue.Expired}}))
		require.EqualValues(t, 2, b.view().Stock)
		require.Empty(t, b.held(ticket.User))

		other := b.admit(ask("other", ticket.User))[0]
		require.NoError(t, other.Err)
		revive(1, queue.ErrHeld)
		require.NoError(t, b.Cancel(b.ctx, "other", ticket.User))
		require.NoError(t, b.admit(ask("x", "x"))[0].Err)
		require.NoError(t, b.admit(ask("y", "y"))[0].Err)
		revive(1, queue.ErrSoldOut)
		require.NoError(t, b.Cancel(b.ctx, "y", "y"))

		// Its record may have been forgotten meanwhile.
		require.NoError(t, b.rdb.HDel(b.ctx, b.key("orders"), one).Err())
		r = revive(1, nil)
		require.NoError(t, b.Settle(b.ctx, r.Batch, []queue.Outcome{{ID: one, Op: queue.OpPaid, At: time.Now(),
			Pay: time.Now()}}))
		require.Equal(t, queue.Paid, b.ticket(one).State)
		require.Zero(t, b.view().Stock)
		revive(1, queue.ErrNotWaiting)
	})
}

// Records of the version before have no locale and no deadline.
func TestOlderRecordsAreRead(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		id := b.enqueue(1)[0]
		text, err := b.rdb.HGet(b.ctx, b.key("orders"), id).Result()
		require.NoError(t, err)
		require.NoError(t, b.rdb.HSet(b.ctx, b.key("orders"), id, text[:len(text)-2]).Err())
		batch := b.claim("old", 1)
		require.Empty(t, batch.Poisoned)
		b.settle(batch, queue.OpConfirm)
		require.Equal(t, queue.Confirmed, b.ticket(id).State)
	})
}
