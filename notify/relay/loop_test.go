package relay

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/outbox"
	"sluice/internal/testkit/tables"
	"sluice/notify"
	"sluice/store"
)

func TestFirstQueuedIsFirstDelivered(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Batch = 3
		var queued []string
		for i := range 20 {
			queued = append(queued, fmt.Sprintf("%02d", i*7%20))
		}
		b.QueueOrders(t, "a", queued...)
		ch := outbox.NewRecorder("a", outbox.Accept)
		r := b.relay(ch)
		for len(ch.Messages()) < len(queued) {
			n, err := r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
			require.Positive(t, n)
		}
		require.Equal(t, queued, ch.Orders())
	})
}

func TestALoopGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Batch = 3
		b.QueueOrders(t, "a", "1", "2", "3")
		ch := outbox.NewRecorder("a", outbox.Accept)
		r := b.relay(ch)
		l := r.loops[0]
		step := func(want int) {
			t.Helper()
			n, err := r.step(t.Context(), l)
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
		step(3)
		require.True(t, l.more)
		// As if its transaction had begun first and committed last.
		require.NoError(t, b.DB.Write.Model(&notify.Row{}).Where("order_id = ?",
			"2").Updates(map[string]any{"state": notify.StatePending, "next_at": 0}).Error)
		b.QueueOrders(t, "a", "4")
		b.Clock.Advance(fullScanLeast - time.Millisecond)
		step(1)
		require.False(t, l.more)
		step(0)
		b.Clock.Advance(time.Millisecond)
		step(1)
		require.Equal(t, []string{"1", "2", "3", "4", "2"}, ch.Orders())
		require.Equal(t, int64(2), l.after, "and on from there")
	})
}

func TestHowOftenAFullScanTakesPlace(t *testing.T) {
	t.Parallel()
	l, now := &channelLoop{after: 7}, time.Now()
	for took, wait := range map[time.Duration]time.Duration{0: fullScanLeast, 100 * time.Millisecond: 2 * time.Second,
		time.Hour: fullScanMost} {
		l.fullScanAt, l.fullScanTook = now, took
		require.EqualValues(t, 7, l.nextScan(now.Add(wait-1)).after, took)
		require.Zero(t, l.nextScan(now.Add(wait)).after, took)
	}
}

func TestWhatWasNotSentKeepsItsPlace(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Batch = 3
		b.QueueOrders(t, "a", "1", "2", "3", "4", "5")
		slow := func(m notify.Message) notify.Result {
			if m.OrderID == "2" || m.OrderID == "3" {
				return notify.Hold(0, "its turn did not come in time")
			}
			return notify.Delivered()
		}
		ch := outbox.NewRecorder("a", slow)
		r := b.relay(ch)
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		ch.Answer = outbox.Accept
		_, err = r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, []string{"1", "2", "3", "2", "3", "4"}, ch.Orders())
	})
}

// wide is a recorder that takes more at once.
type wide struct{ *outbox.Recorder }

func (wide) Width() int { return 10 }

func TestAWideChannelTakesMore(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Batch = 3
		b.Insert(t, "a", 40)
		r := b.relay(wide{outbox.NewRecorder("a", outbox.Accept)})
		n, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, 30, n)
	})
}

func TestWhatWasPutOffDoesNotWaitForABacklog(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Batch = 3
		b.QueueOrders(t, "a", "1")
		ch := outbox.NewRecorder("a", func(notify.Message) notify.Result { return notify.Retry("busy") })
		r := b.relay(ch)
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		b.Insert(t, "a", 20)
		b.Clock.Advance(retryWait(b.Config, 1))
		_, err = r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, []string{"1", "1", "order-0000", "order-0001"}, ch.Orders())
	})
}

func TestABacklogOfRetriesLeavesRoomForNewRows(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Batch = 5
		b.QueueOrders(t, "a", "1", "2", "3", "4", "5", "6", "7")
		ch := outbox.NewRecorder("a", func(notify.Message) notify.Result { return notify.Retry("busy") })
		r := b.relay(ch)
		step := func() (delivered []string) {
			before := len(ch.Messages())
			_, err := r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
			return ch.Orders()[before:]
		}
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, step())
		require.Equal(t, []string{"6", "7"}, step())
		b.Clock.Advance(retryWait(b.Config, 1))
		b.QueueOrders(t, "a", "new 1", "new 2", "new 3")
		require.Equal(t, []string{"1", "2", "3", "new 1", "new 2"}, step())
		require.Equal(t, []string{"4", "5", "6", "7", "new 3"}, step(),
			"room that no new row takes is left to retries")
	})
}

// slowClock returns a clock that advances at each reading, as if the database were slow.
func slowClock(clock *testkit.Clock, by time.Duration) func() time.Time {
	return func() time.Time {
		clock.Advance(by)
		return clock.Now()
	}
}

func TestALeaseBeginsWhenItIsWritten(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Insert(t, "a", 1)
		r := b.relay(outbox.NewRecorder("a", outbox.Accept))
		r.clock = slowClock(b.Clock, 4*time.Second)
		began := b.Clock.Now()
		_, err := r.lease(t.Context(), r.loops[0])
		require.NoError(t, err)
		leased := b.Rows(t, notify.StatePending)[0]
		require.Equal(t, began.Add(8*time.Second+b.Config.Lease).UnixMilli(), leased.LeasedUntil)
	})
}

// TestStoringResultsFindsRowsByTheirKey uses a database whose statistics say that no row is pending.
func TestStoringResultsFindsRowsByTheirKey(t *testing.T) {
	t.Parallel()
	b := bench{outbox.On(t, tables.New(t, store.Postgres))}
	b.Insert(t, "between sales", 2000)
	require.NoError(t, b.DB.Write.Exec("UPDATE outbox SET state = ?", notify.StateDelivered).Error)
	require.NoError(t, b.DB.Write.Exec("ANALYZE outbox").Error)
	b.Insert(t, "a", 2000)
	update := b.DB.Write.ToSQL(func(tx *gorm.DB) *gorm.DB {
		return batch{token: 7}.stillLeased(tx, append(outbox.Span(2100, 2200), outbox.Span(2300, 2400)...)).
			Updates(rowChange{}.columns(1))
	})
	var plan []string
	require.NoError(t, b.DB.Write.Raw("EXPLAIN "+update).Scan(&plan).Error)
	require.Contains(t, strings.Join(plan, "\n"), "outbox_pkey")
	require.NotContains(t, strings.Join(plan, "\n"), "outbox_due")
}

func TestAScanLocksNoRowOfAnotherChannel(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{store.MySQL, store.Postgres} {
		b := bench{outbox.On(t, tables.New(t, driver))}
		b.Insert(t, "email", 2)
		b.Insert(t, "sms", 2)
		r := b.relay(outbox.NewRecorder("sms", outbox.Accept))
		require.NoError(t, b.DB.Tx(t.Context(), func(tx *gorm.DB) error {
			mine, err := lockDue(tx, "email", scan{began: b.Clock.Now()}, 100)
			require.NoError(t, err)
			require.Len(t, mine, 2)
			theirs, err := r.lease(t.Context(), r.loops[0])
			require.NoError(t, err)
			require.Len(t, theirs.rows, 2, driver)
			return nil
		}))
	}
}

// pausing is a recorder whose receiver is known to be down.
type pausing struct{ *outbox.Recorder }

func (*pausing) Pause() time.Duration { return time.Hour }

func TestTheBacklogOfAPausingChannelIsLeftAlone(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Insert(t, "email", 5)
		b.Insert(t, "sms", 5)
		waiting, live := &pausing{outbox.NewRecorder("email", outbox.Accept)}, outbox.NewRecorder("sms", outbox.Accept)
		run(t, b.relay(waiting, live))
		b.WaitFor(t, notify.StateDelivered, 5)
		for _, row := range b.Rows(t, notify.StatePending) {
			require.Zero(t, row.Attempts)
			require.Zero(t, row.Lease)
		}
		require.Empty(t, waiting.Messages())
	})
}

func TestHeldMessagesLoseNoAttempt(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Retries = 0
		b.Insert(t, "email", 1)
		answer := notify.Hold(7*time.Second, "the receiver fails, the channel waits")
		ch := outbox.NewRecorder("email", func(notify.Message) notify.Result { return answer })
		r := b.relay(ch)
		for range 3 {
			_, err := r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
			row := b.Rows(t, notify.StatePending)[0]
			require.Zero(t, row.Attempts)
			require.Zero(t, row.NextAt, "it keeps its place")
			require.Equal(t, answer.Failure(), row.LastError)
			require.Equal(t, 7*time.Second, r.loops[0].pause(), "the channel rests instead")
			require.Zero(t, r.loops[0].pause())
		}
		answer = notify.Delivered()
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, 1, b.Rows(t, notify.StateDelivered)[0].Attempts)
		require.EqualValues(t, 3, counted(r, "email", countHeld))
	})
}
