package notify

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/store"
)

// queue adds an event of each order, in this order.
func (b *bench) queue(t *testing.T, channel string, orders ...string) {
	t.Helper()
	for _, id := range orders {
		row := Row{OrderID: id, Event: EventConfirmed, Channel: channel, SaleID: "s1", UserID: "u1",
			CreatedAt: b.clock.Now().UnixMilli()}
		require.NoError(t, b.db.Tx(t.Context(), func(tx *gorm.DB) error { return Insert(tx, []Row{row}) }))
	}
}

func (c *recorder) orders() []string {
	var ids []string
	for _, m := range c.messages() {
		ids = append(ids, m.OrderID)
	}
	return ids
}

func TestFirstQueuedIsFirstDelivered(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Batch = 3
		var queued []string
		for i := range 20 {
			queued = append(queued, fmt.Sprintf("%02d", i*7%20))
		}
		b.queue(t, "a", queued...)
		ch := &recorder{name: "a", answer: accept}
		r := b.relay(ch)
		for len(ch.messages()) < len(queued) {
			n, err := r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
			require.Positive(t, n)
		}
		require.Equal(t, queued, ch.orders())
	})
}

func TestALoopGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Batch = 3
		b.queue(t, "a", "1", "2", "3")
		ch := &recorder{name: "a", answer: accept}
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
		require.NoError(t, b.db.Write.Model(&Row{}).Where("order_id = ?",
			"2").Updates(map[string]any{"state": StatePending, "next_at": 0}).Error)
		b.queue(t, "a", "4")
		b.clock.Advance(fullScanLeast - time.Millisecond)
		step(1)
		require.False(t, l.more)
		step(0)
		b.clock.Advance(time.Millisecond)
		step(1)
		require.Equal(t, []string{"1", "2", "3", "4", "2"}, ch.orders())
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
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Batch = 3
		b.queue(t, "a", "1", "2", "3", "4", "5")
		slow := func(m Message) Result {
			if m.OrderID == "2" || m.OrderID == "3" {
				return Hold(0, "its turn did not come in time")
			}
			return Delivered()
		}
		ch := &recorder{name: "a", answer: slow}
		r := b.relay(ch)
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		ch.answer = accept
		_, err = r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, []string{"1", "2", "3", "2", "3", "4"}, ch.orders())
	})
}

// wide is a recorder that takes more at once.
type wide struct{ *recorder }

func (wide) Width() int { return 10 }

func TestAWideChannelTakesMore(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Batch = 3
		b.insert(t, "a", 40)
		r := b.relay(wide{&recorder{name: "a", answer: accept}})
		n, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, 30, n)
	})
}

func TestWhatWasPutOffDoesNotWaitForABacklog(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Batch = 3
		b.queue(t, "a", "1")
		ch := &recorder{name: "a", answer: func(Message) Result { return Retry("busy") }}
		r := b.relay(ch)
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		b.insert(t, "a", 20)
		b.clock.Advance(b.cfg.wait(1))
		_, err = r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, []string{"1", "1", "order-0000", "order-0001"}, ch.orders())
	})
}

func TestABacklogOfRetriesLeavesRoomForNewRows(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Batch = 5
		b.queue(t, "a", "1", "2", "3", "4", "5", "6", "7")
		ch := &recorder{name: "a", answer: func(Message) Result { return Retry("busy") }}
		r := b.relay(ch)
		step := func() (delivered []string) {
			before := len(ch.messages())
			_, err := r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
			return ch.orders()[before:]
		}
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, step())
		require.Equal(t, []string{"6", "7"}, step())
		b.clock.Advance(b.cfg.wait(1))
		b.queue(t, "a", "new 1", "new 2", "new 3")
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
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "a", 1)
		r := b.relay(&recorder{name: "a", answer: accept})
		r.clock = slowClock(b.clock, 4*time.Second)
		began := b.clock.Now()
		_, err := r.lease(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, began.Add(8*time.Second+b.cfg.Lease).UnixMilli(), b.rows(t, StatePending)[0].LeasedUntil)
	})
}

// TestStoringResultsFindsRowsByTheirKey uses a database whose statistics say that no row is pending.
func TestStoringResultsFindsRowsByTheirKey(t *testing.T) {
	t.Parallel()
	b := benchOn(t, tables.New(t, store.Postgres))
	b.insert(t, "between sales", 2000)
	require.NoError(t, b.db.Write.Exec("UPDATE outbox SET state = ?", StateDelivered).Error)
	require.NoError(t, b.db.Write.Exec("ANALYZE outbox").Error)
	b.insert(t, "a", 2000)
	update := b.db.Write.ToSQL(func(tx *gorm.DB) *gorm.DB {
		return batch{token: 7}.stillLeased(tx, append(span(2100, 2200), span(2300, 2400)...)).
			Updates(rowChange{}.columns(1))
	})
	var plan []string
	require.NoError(t, b.db.Write.Raw("EXPLAIN "+update).Scan(&plan).Error)
	require.Contains(t, strings.Join(plan, "\n"), "outbox_pkey")
	require.NotContains(t, strings.Join(plan, "\n"), "outbox_due")
}

func TestAScanLocksNoRowOfAnotherChannel(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{store.MySQL, store.Postgres} {
		b := benchOn(t, tables.New(t, driver))
		b.insert(t, "email", 2)
		b.insert(t, "sms", 2)
		r := b.relay(&recorder{name: "sms", answer: accept})
		require.NoError(t, b.db.Tx(t.Context(), func(tx *gorm.DB) error {
			mine, err := lockDue(tx, "email", scan{began: b.clock.Now()}, 100)
			require.NoError(t, err)
			require.Len(t, mine, 2)
			theirs, err := r.lease(t.Context(), r.loops[0])
			require.NoError(t, err)
			require.Len(t, theirs.rows, 2, driver)
			return nil
		}))
	}
}

func TestWhereIDsSelectsExactlyTheseRows(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "a", 200)
		for name, ids := range map[string][]int64{"none": {}, "one": {7}, "a run": span(10, 90),
			"apart": {1, 3, 5, 200}, "unsorted and mixed": append(append(span(100, 130), 3, 9), span(40, 60)...)} {
			var found []int64
			require.NoError(t, whereIDs(b.db.Read, ids).Order("id").Pluck("id", &found).Error, name)
			slices.Sort(ids)
			require.ElementsMatch(t, ids, found, name)
		}
	})
}

func span(first, last int64) []int64 {
	var ids []int64
	for id := first; id <= last; id++ {
		ids = append(ids, id)
	}
	return ids
}

// pausing is a recorder whose receiver is known to be down.
type pausing struct{ recorder }

func (*pausing) Pause() time.Duration { return time.Hour }

func TestTheBacklogOfAPausingChannelIsLeftAlone(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "email", 5)
		b.insert(t, "sms", 5)
		waiting, live := &pausing{recorder{name: "email", answer: accept}}, &recorder{name: "sms", answer: accept}
		run(t, b.relay(waiting, live))
		b.waitFor(t, StateDelivered, 5)
		for _, row := range b.rows(t, StatePending) {
			require.Zero(t, row.Attempts)
			require.Zero(t, row.Lease)
		}
		require.Empty(t, waiting.messages())
	})
}

func TestHeldMessagesLoseNoAttempt(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Retries = 0
		b.insert(t, "email", 1)
		answer := Hold(7*time.Second, "the receiver fails, the channel waits")
		ch := &recorder{name: "email", answer: func(Message) Result { return answer }}
		r := b.relay(ch)
		for range 3 {
			_, err := r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
			row := b.rows(t, StatePending)[0]
			require.Zero(t, row.Attempts)
			require.Zero(t, row.NextAt, "it keeps its place")
			require.Equal(t, answer.Failure(), row.LastError)
			require.Equal(t, 7*time.Second, r.loops[0].pause(), "the channel rests instead")
			require.Zero(t, r.loops[0].pause())
		}
		answer = Delivered()
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, 1, b.rows(t, StateDelivered)[0].Attempts)
		require.EqualValues(t, 3, counted(r, "email", countHeld))
	})
}
