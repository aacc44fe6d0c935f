package notify

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

func TestDeliversWhatWasCommitted(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		gone := []Row{{OrderID: "never", Event: "order.confirmed", Channel: "a", CreatedAt: 1}}
		rollback := errors.New("no stock")
		err := b.db.Tx(t.Context(), func(tx *gorm.DB) error {
			require.NoError(t, Insert(tx, gone))
			return rollback
		})
		require.ErrorIs(t, err, rollback)
		b.insert(t, "a", 7)
		b.insert(t, "a", 7) // the same events again
		ch := &recorder{name: "a", answer: accept}
		r := b.relay(ch)
		r.instanceID = 7
		run(t, r)
		for _, row := range b.waitFor(t, StateDelivered, 7) {
			require.Equal(t, b.clock.Now().UnixMilli(), row.DeliveredAt)
			require.Zero(t, row.Lease)
			require.EqualValues(t, 7, row.DeliveredBy)
			require.Equal(t, 1, row.Attempts)
		}
		seen := ch.messages()
		require.Len(t, seen, 7)
		require.Equal(t, "s1", seen[0].SaleID)
		require.Equal(t, "u1", seen[0].UserID)
		require.Equal(t, seen[0].OrderID+":order.confirmed", seen[0].ID())
		require.True(t, b.clock.Now().Equal(seen[0].CreatedAt))
		require.Eventually(t, func() bool { return counted(r, "a", countDelivered) == 7 }, eventually, time.Millisecond)
	})
}

func TestInsertManyInChunks(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "a", 2*insertChunk+1)
		b.insert(t, "b", 3)
		pending, err := countState(t.Context(), b.db.Read, StatePending)
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"a": 2*insertChunk + 1, "b": 3}, pending)
		r := b.relay(&recorder{name: "a", answer: accept}, &recorder{name: "idle", answer: accept})
		run(t, r)
		b.waitFor(t, StateDelivered, 2*insertChunk+1)
		require.Len(t, b.rows(t, StatePending), 3, "rows of a channel this relay does not serve stay")
		require.Zero(t, testutil.ToFloat64(r.metrics.pending.WithLabelValues("idle")))
	})
}

func TestWakeSparesThePoll(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Poll = time.Minute
		r := b.relay(&recorder{name: "a", answer: accept})
		run(t, r)
		b.insert(t, "a", 1)
		r.Wake()
		r.Wake()
		b.waitFor(t, StateDelivered, 1)
	})
}

func TestTwoRelaysShareWithoutRepeating(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Batch = 7
		b.insert(t, "a", 300)
		first, second := &recorder{name: "a", answer: accept}, &recorder{name: "a", answer: accept}
		run(t, b.relay(first))
		run(t, b.relay(second))
		b.waitFor(t, StateDelivered, 300)
		times := map[string]int{}
		for _, m := range append(first.messages(), second.messages()...) {
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
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "a", 3)
		ch := &recorder{name: "a", answer: accept}
		late := b.relay(ch)
		leased, err := late.lease(t.Context(), late.loops[0]) // and then this relay stalls
		require.NoError(t, err)
		require.Len(t, leased.rows, 3)

		next := b.relay(ch)
		b.clock.Advance(b.cfg.Lease - time.Millisecond)
		n, err := next.step(t.Context(), next.loops[0])
		require.NoError(t, err)
		require.Zero(t, n, "the lease stands")
		b.clock.Advance(time.Millisecond)
		n, err = next.step(t.Context(), next.loops[0])
		require.NoError(t, err)
		require.Equal(t, 3, n)
		for _, m := range ch.messages() {
			require.Equal(t, 2, m.Attempt)
		}

		failed := []Result{Permanent("x"), Permanent("x"), Permanent("x")}
		require.NoError(t, late.storeResults(t.Context(), late.loops[0], leased, failed, false))
		require.Len(t, b.rows(t, StateDelivered), 3, "a late relay changes nothing")
		require.EqualValues(t, 3, counted(late, "a", countFenced))
	})
}

func TestScheduleThenDead(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "a", 1)
		ch := &recorder{name: "a", answer: func(Message) Result { return Retry("busy\x00" + string([]byte{0xff})) }}
		r := b.relay(ch)
		step := func() int {
			n, err := r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
			return n
		}
		require.Equal(t, 1, step())
		for retry := 1; retry <= 10; retry++ {
			row := b.rows(t, StatePending)[0]
			wait := time.Duration(2*retry-1) * time.Minute
			require.Equal(t, b.clock.Now().Add(wait).UnixMilli(), row.NextAt, "retry %d", retry)
			require.Equal(t, "busy?", row.LastError)
			b.clock.Advance(wait - time.Millisecond)
			require.Zero(t, step(), "retry %d is early", retry)
			b.clock.Advance(time.Millisecond)
			require.Equal(t, 1, step(), "retry %d", retry)
		}
		dead := b.rows(t, StateDead)
		require.Len(t, dead, 1)
		require.Equal(t, 11, dead[0].Attempts)
		b.clock.Advance(24 * 365 * time.Hour)
		require.Zero(t, step())
		require.NoError(t, r.sweep(t.Context(), "a"))
		require.Len(t, b.rows(t, StateDead), 1, "the dead are kept")
		require.EqualValues(t, 10, counted(r, "a", countRetry))
		require.EqualValues(t, 1, counted(r, "a", countDead))
	})
}

func TestResults(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Jitter = 0.5
		b.insert(t, "a", 5)
		answers := []Result{Delivered(), Permanent("no such number"), PutOff(7*time.Minute, "away"),
			Retry("soon")}
		ch := channelFunc{"a", func(context.Context, []Message) []Result { return answers }}
		r := b.relay(ch)
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		now := b.clock.Now().UnixMilli()
		require.Len(t, b.rows(t, StateDelivered), 1)
		require.Equal(t, "no such number", b.rows(t, StateDead)[0].LastError)
		pending := b.rows(t, StatePending)
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
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Retries = 2
		b.insert(t, "a", 1)
		ch := &recorder{name: "a", answer: accept}
		for range b.cfg.Retries + 1 {
			r := b.relay(ch)
			leased, err := r.lease(t.Context(), r.loops[0])
			require.NoError(t, err)
			require.Len(t, leased.rows, 1)
			b.clock.Advance(b.cfg.Lease)
		}
		r := b.relay(ch)
		leased, err := r.lease(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Empty(t, leased.rows)
		require.Equal(t, lastAttemptLost, b.rows(t, StateDead)[0].LastError)
	})
}

func TestSlowOrPanickingChannelDelaysNoOther(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		slow := newBlocked("slow", Delivered())
		mad := channelFunc{"mad", func(context.Context, []Message) []Result { panic("boom") }}
		b.insert(t, "slow", 2)
		b.insert(t, "mad", 2)
		b.insert(t, "fast", 2)
		run(t, b.relay(slow, mad, &recorder{name: "fast", answer: accept}))
		<-slow.entered
		for _, row := range b.waitFor(t, StateDelivered, 2) {
			require.Equal(t, "fast", row.Channel)
		}
		require.Eventually(t, func() bool {
			var n int64
			err := b.db.Read.Model(&Row{}).Where("last_error = ?", "the channel panicked").Count(&n).Error
			return err == nil && n == 2
		}, eventually, time.Millisecond)
		close(slow.release)
		b.waitFor(t, StateDelivered, 4)
	})
}

func TestStopFinishesWithinGrace(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "a", 2)
		ch := newBlocked("a", Delivered())
		stop := run(t, b.relay(ch))
		<-ch.entered
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		close(ch.release)
		<-stopped
		require.Len(t, b.rows(t, StateDelivered), 2)
	})
}

func TestStopHandsBackAfterGrace(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Grace = 20 * time.Millisecond
		b.insert(t, "a", 2)
		ch := newBlocked("a", Delivered())
		r := b.relay(ch)
		stop := run(t, r)
		<-ch.entered
		stop()
		for _, row := range b.rows(t, StatePending) {
			require.Zero(t, row.Lease)
			require.Zero(t, row.Attempts, "an interrupted delivery is no attempt")
			require.Zero(t, row.NextAt, "it keeps its place")
		}
		require.EqualValues(t, 2, counted(r, "a", countReleased))
	})
}

func TestSweepDeletesOnlyOldDelivered(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		ch := &recorder{name: "a", answer: accept}
		r := b.relay(ch)
		b.insert(t, "a", sweepChunk+50)
		for n := 1; n > 0; {
			var err error
			n, err = r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
		}
		b.clock.Advance(b.cfg.Keep)
		require.NoError(t, r.sweep(t.Context(), "a"))
		require.Len(t, b.rows(t, StateDelivered), sweepChunk+50, "not older yet")
		require.NoError(t, b.db.Tx(t.Context(), func(tx *gorm.DB) error {
			return Insert(tx, []Row{{OrderID: "new", Event: "e", Channel: "a", CreatedAt: 1}})
		}))
		b.clock.Advance(time.Millisecond)
		require.NoError(t, r.sweep(t.Context(), "a"))
		require.Empty(t, b.rows(t, StateDelivered))
		require.Len(t, b.rows(t, StatePending), 1)
	})
}

func TestWaitsForAnUnreachableDatabase(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		require.NoError(t, b.db.Write.Exec("ALTER TABLE outbox RENAME TO elsewhere").Error)
		run(t, b.relay(&recorder{name: "a", answer: accept}))
		require.NoError(t, b.db.Write.Exec("ALTER TABLE elsewhere RENAME TO outbox").Error)
		b.insert(t, "a", 1)
		b.waitFor(t, StateDelivered, 1)
	})
}

func TestConfigNamesTheKeyAtFault(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().Validate())
	err := Config{Batch: 5000, Lease: time.Second, Timeout: time.Second, Retries: -1, Jitter: 2, Keep: -1,
		Grace: -1}.Validate()
	for _, key := range []string{"poll", "batch", "timeout", "retries", "retry_unit", "jitter", "grace", "keep",
		"sweep"} {
		require.ErrorContains(t, err, fmt.Sprintf("notify.%s: ", key))
	}
}

// channelFunc is a channel made of a function.
type channelFunc struct {
	name    string
	deliver func(context.Context, []Message) []Result
}

func (c channelFunc) Name() string { return c.name }

func (c channelFunc) Deliver(ctx context.Context, messages []Message) []Result {
	return c.deliver(ctx, messages)
}
