package relay

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/internal/testkit/outbox"
	"sluice/notify"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

func TestDeliversWhatWasCommitted(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		gone := []notify.Row{{OrderID: "never", Event: "order.confirmed", Channel: "a", CreatedAt: 1}}
		rollback := errors.New("no stock")
		err := b.DB.Tx(t.Context(), func(tx *gorm.DB) error {
			require.NoError(t, notify.Insert(tx, gone))
			return rollback
		})
		require.ErrorIs(t, err, rollback)
		b.Insert(t, "a", 7)
		b.Insert(t, "a", 7) // the same events again
		ch := outbox.NewRecorder("a", outbox.Accept)
		r := b.relay(ch)
		r.instanceID = 7
		run(t, r)
		for _, row := range b.WaitFor(t, notify.StateDelivered, 7) {
			require.Equal(t, b.Clock.Now().UnixMilli(), row.DeliveredAt)
			require.Zero(t, row.Lease)
			require.EqualValues(t, 7, row.DeliveredBy)
			require.Equal(t, 1, row.Attempts)
		}
		seen := ch.Messages()
		require.Len(t, seen, 7)
		require.Equal(t, "s1", seen[0].SaleID)
		require.Equal(t, "u1", seen[0].UserID)
		require.Equal(t, seen[0].OrderID+":order.confirmed", seen[0].ID())
		require.True(t, b.Clock.Now().Equal(seen[0].CreatedAt))
		require.Eventually(t, func() bool { return counted(r, "a", countDelivered) == 7 }, outbox.Patience,
			time.Millisecond)
	})
}

func TestInsertManyInChunks(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		const many = 1001 // the rows of three statements
		b.Insert(t, "a", many)
		b.Insert(t, "b", 3)
		pending, err := countState(t.Context(), b.DB.Read, notify.StatePending)
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"a": many, "b": 3}, pending)
		r := b.relay(outbox.NewRecorder("a", outbox.Accept), outbox.NewRecorder("idle", outbox.Accept))
		run(t, r)
		b.WaitFor(t, notify.StateDelivered, many)
		require.Len(t, b.Rows(t, notify.StatePending), 3, "rows of a channel this relay does not serve stay")
		require.Zero(t, testutil.ToFloat64(r.metrics.pending.WithLabelValues("idle")))
	})
}

func TestWakeSparesThePoll(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Poll = time.Minute
		r := b.relay(outbox.NewRecorder("a", outbox.Accept))
		run(t, r)
		b.Insert(t, "a", 1)
		r.Wake()
		r.Wake()
		b.WaitFor(t, notify.StateDelivered, 1)
	})
}

func TestTwoRelaysShareWithoutRepeating(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Batch = 7
		b.Insert(t, "a", 300)
		first, second := outbox.NewRecorder("a", outbox.Accept), outbox.NewRecorder("a", outbox.Accept)
		run(t, b.relay(first))
		run(t, b.relay(second))
		b.WaitFor(t, notify.StateDelivered, 300)
		times := map[string]int{}
		for _, m := range append(first.Messages(), second.Messages()...) {
			times[m.ID()]++
		}
		require.Len(t, times, 300)
		for id, n := range times {
			require.Equal(t, 1, n, id)
		}
	})
}

func TestAbandonedLeaseIsDeliveredAgainAndFenced(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Insert(t, "a", 3)
		ch := outbox.NewRecorder("a", outbox.Accept)
		late := b.relay(ch)
		leased, err := late.lease(t.Context(), late.loops[0]) // and then this relay stalls
		require.NoError(t, err)
		require.Len(t, leased.rows, 3)

		next := b.relay(ch)
		b.Clock.Advance(b.Config.Lease - time.Millisecond)
		n, err := next.step(t.Context(), next.loops[0])
		require.NoError(t, err)
		require.Zero(t, n, "the lease stands")
		b.Clock.Advance(time.Millisecond)
		n, err = next.step(t.Context(), next.loops[0])
		require.NoError(t, err)
		require.Equal(t, 3, n)
		for _, m := range ch.Messages() {
			require.Equal(t, 2, m.Attempt)
		}

		failed := []notify.Result{notify.Permanent("x"), notify.Permanent("x"), notify.Permanent("x")}
		require.NoError(t, late.storeResults(t.Context(), late.loops[0], leased, failed, false))
		require.Len(t, b.Rows(t, notify.StateDelivered), 3, "a late relay changes nothing")
		require.EqualValues(t, 3, counted(late, "a", countFenced))
	})
}

func TestScheduleThenDead(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Insert(t, "a", 1)
		ch := outbox.NewRecorder("a", func(notify.Message) notify.Result {
			return notify.Retry("busy\x00" + string([]byte{0xff}))
		})
		r := b.relay(ch)
		step := func() int {
			n, err := r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
			return n
		}
		require.Equal(t, 1, step())
		for retry := 1; retry <= 10; retry++ {
			row := b.Rows(t, notify.StatePending)[0]
			wait := time.Duration(2*retry-1) * time.Minute
			require.Equal(t, b.Clock.Now().Add(wait).UnixMilli(), row.NextAt, "retry %d", retry)
			require.Equal(t, "busy?", row.LastError)
			b.Clock.Advance(wait - time.Millisecond)
			require.Zero(t, step(), "retry %d is early", retry)
			b.Clock.Advance(time.Millisecond)
			require.Equal(t, 1, step(), "retry %d", retry)
		}
		dead := b.Rows(t, notify.StateDead)
		require.Len(t, dead, 1)
		require.Equal(t, 11, dead[0].Attempts)
		b.Clock.Advance(24 * 365 * time.Hour)
		require.Zero(t, step())
		require.NoError(t, r.sweep(t.Context(), "a"))
		require.Len(t, b.Rows(t, notify.StateDead), 1, "the dead are kept")
		require.EqualValues(t, 10, counted(r, "a", countRetry))
		require.EqualValues(t, 1, counted(r, "a", countDead))
	})
}

func TestResults(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Jitter = 0.5
		b.Insert(t, "a", 5)
		answers := []notify.Result{notify.Delivered(), notify.Permanent("no such number"),
			notify.PutOff(7*time.Minute, "away"),
			notify.Retry("soon")}
		ch := channelFunc{"a", func(context.Context, []notify.Message) []notify.Result { return answers }}
		r := b.relay(ch)
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		now := b.Clock.Now().UnixMilli()
		require.Len(t, b.Rows(t, notify.StateDelivered), 1)
		require.Equal(t, "no such number", b.Rows(t, notify.StateDead)[0].LastError)
		pending := b.Rows(t, notify.StatePending)
		require.Len(t, pending, 3)
		for _, row := range pending {
			if row.LastError == "away" {
				require.Equal(t, now+7*60_000, row.NextAt)
				require.Zero(t, row.Attempts)
				continue
			}
			require.GreaterOrEqual(t, row.NextAt, now+60_000)
			require.LessOrEqual(t, row.NextAt, now+90_000)
		}
		require.Equal(t, "the channel reported 4 results for 5 messages", pending[2].LastError)
	})
}

func TestCrashLoopRunsOutOfAttempts(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Retries = 2
		b.Insert(t, "a", 1)
		ch := outbox.NewRecorder("a", outbox.Accept)
		for range b.Config.Retries + 1 {
			r := b.relay(ch)
			leased, err := r.lease(t.Context(), r.loops[0])
			require.NoError(t, err)
			require.Len(t, leased.rows, 1)
			b.Clock.Advance(b.Config.Lease)
		}
		r := b.relay(ch)
		leased, err := r.lease(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Empty(t, leased.rows)
		require.Equal(t, lastAttemptLost, b.Rows(t, notify.StateDead)[0].LastError)
	})
}

func TestSlowOrPanickingChannelDelaysNoOther(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		slow := outbox.NewBlocked("slow", notify.Delivered())
		mad := channelFunc{"mad", func(context.Context, []notify.Message) []notify.Result { panic("boom") }}
		b.Insert(t, "slow", 2)
		b.Insert(t, "mad", 2)
		b.Insert(t, "fast", 2)
		run(t, b.relay(slow, mad, outbox.NewRecorder("fast", outbox.Accept)))
		<-slow.Entered
		for _, row := range b.WaitFor(t, notify.StateDelivered, 2) {
			require.Equal(t, "fast", row.Channel)
		}
		require.Eventually(t, func() bool {
			var n int64
			err := b.DB.Read.Model(&notify.Row{}).Where("last_error = ?", "the channel panicked").Count(&n).Error
			return err == nil && n == 2
		}, outbox.Patience, time.Millisecond)
		close(slow.Release)
		b.WaitFor(t, notify.StateDelivered, 4)
	})
}

func TestStopFinishesWithinGrace(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Insert(t, "a", 2)
		ch := outbox.NewBlocked("a", notify.Delivered())
		stop := run(t, b.relay(ch))
		<-ch.Entered
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		close(ch.Release)
		<-stopped
		require.Len(t, b.Rows(t, notify.StateDelivered), 2)
	})
}

func TestStopHandsBackAfterGrace(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Grace = 20 * time.Millisecond
		b.Insert(t, "a", 2)
		ch := outbox.NewBlocked("a", notify.Delivered())
		r := b.relay(ch)
		stop := run(t, r)
		<-ch.Entered
		stop()
		for _, row := range b.Rows(t, notify.StatePending) {
			require.Zero(t, row.Lease)
			require.Zero(t, row.Attempts, "an interrupted delivery is no attempt")
			require.Zero(t, row.NextAt, "it keeps its place")
		}
		require.EqualValues(t, 2, counted(r, "a", countReleased))
	})
}

func TestSweepDeletesOnlyOldDelivered(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		ch := outbox.NewRecorder("a", outbox.Accept)
		r := b.relay(ch)
		b.Insert(t, "a", sweepChunk+50)
		for n := 1; n > 0; {
			var err error
			n, err = r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
		}
		b.Clock.Advance(b.Config.Keep)
		require.NoError(t, r.sweep(t.Context(), "a"))
		require.Len(t, b.Rows(t, notify.StateDelivered), sweepChunk+50, "not older yet")
		require.NoError(t, b.DB.Tx(t.Context(), func(tx *gorm.DB) error {
			return notify.Insert(tx, []notify.Row{{OrderID: "new", Event: "e", Channel: "a", CreatedAt: 1}})
		}))
		b.Clock.Advance(time.Millisecond)
		require.NoError(t, r.sweep(t.Context(), "a"))
		require.Empty(t, b.Rows(t, notify.StateDelivered))
		require.Len(t, b.Rows(t, notify.StatePending), 1)
	})
}

func TestWaitsForAnUnreachableDatabase(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		require.NoError(t, b.DB.Write.Exec("ALTER TABLE outbox RENAME TO elsewhere").Error)
		run(t, b.relay(outbox.NewRecorder("a", outbox.Accept)))
		require.NoError(t, b.DB.Write.Exec("ALTER TABLE elsewhere RENAME TO outbox").Error)
		b.Insert(t, "a", 1)
		b.WaitFor(t, notify.StateDelivered, 1)
	})
}

// channelFunc is a channel made of a function.
type channelFunc struct {
	name    string
	deliver func(context.Context, []notify.Message) []notify.Result
}

func (c channelFunc) Name() string { return c.name }

func (c channelFunc) Deliver(ctx context.Context, messages []notify.Message) []notify.Result {
	return c.deliver(ctx, messages)
}
