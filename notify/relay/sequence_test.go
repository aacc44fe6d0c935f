package relay

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/internal/testkit/outbox"
	"sluice/notify"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// latestRecorder is a recorder that implements Latest.
type latestRecorder struct{ *outbox.Recorder }

func (latestRecorder) Latest() bool { return true }

// scanTimes lets a relay's only loop scan n times.
func scanTimes(t *testing.T, r *Relay, n int) {
	t.Helper()
	for range n {
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
	}
}

// TestEventsOfOneOrderGoOutInTheirOrder checks that retries do not change the order of events.
func TestEventsOfOneOrderGoOutInTheirOrder(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		away := true
		ch := outbox.NewRecorder("a", func(m notify.Message) notify.Result {
			if away && m.OrderID == "one" {
				return notify.Retry("away")
			}
			return notify.Delivered()
		})
		r := b.relay(ch)
		b.Queue(t, "a", "one", notify.EventConfirmed)
		scanTimes(t, r, 1)
		b.Queue(t, "a", "one", notify.EventExpired, notify.EventPaid)
		b.Queue(t, "a", "two", notify.EventConfirmed, notify.EventPaid)
		scanTimes(t, r, 5)
		require.Equal(t, []string{notify.EventConfirmed}, ch.Events("one"), "nothing while it waits for its next try")
		require.Equal(t, []string{notify.EventConfirmed, notify.EventPaid}, ch.Events("two"),
			"others do not wait for it")
		looks := len(ch.Messages())
		scanTimes(t, r, 3)
		require.Len(t, ch.Messages(), looks)
		b.Clock.Advance(retryWait(b.Config, 1))
		scanTimes(t, r, 3)
		require.Equal(t, []string{notify.EventConfirmed, notify.EventConfirmed}, ch.Events("one"))
		away = false
		b.Clock.Advance(retryWait(b.Config, 2))
		scanTimes(t, r, 4)
		require.Equal(t, []string{notify.EventConfirmed, notify.EventConfirmed, notify.EventConfirmed,
			notify.EventExpired, notify.EventPaid},
			ch.Events("one"))
		require.Len(t, b.Rows(t, notify.StateDelivered), 5)
	})
}

// TestWhatComesAfterADeadEventIsDelivered checks that a dead event no longer delays later ones.
func TestWhatComesAfterADeadEventIsDelivered(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		ch := outbox.NewRecorder("a", func(m notify.Message) notify.Result {
			if m.Event == notify.EventConfirmed {
				return notify.Permanent("no such thing")
			}
			return notify.Delivered()
		})
		b.Queue(t, "a", "one", notify.EventConfirmed, notify.EventPaid)
		scanTimes(t, b.relay(ch), 2)
		require.Equal(t, []string{notify.EventConfirmed, notify.EventPaid}, ch.Events("one"))
	})
}

// TestTwoRelaysKeepTheOrderOfOneOrder checks that two relays do not deliver events of one order at the same time.
func TestTwoRelaysKeepTheOrderOfOneOrder(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		first, second := outbox.NewRecorder("a", outbox.Accept), outbox.NewRecorder("a", outbox.Accept)
		slow, quick := b.relay(first), b.relay(second)
		b.Queue(t, "a", "one", notify.EventConfirmed)
		leased, err := slow.lease(t.Context(), slow.loops[0])
		require.NoError(t, err)
		require.Len(t, leased.rows, 1)
		b.Queue(t, "a", "one", notify.EventPaid)
		b.Queue(t, "a", "two", notify.EventConfirmed)
		scanTimes(t, quick, 3)
		require.Empty(t, second.Events("one"), "the other relay has what comes before")
		require.Equal(t, []string{notify.EventConfirmed}, second.Events("two"))
		delivered := []notify.Result{notify.Delivered()}
		require.NoError(t, slow.storeResults(t.Context(), slow.loops[0], leased, delivered, false))
		b.Clock.Advance(blockedAgain)
		scanTimes(t, quick, 2)
		require.Equal(t, []string{notify.EventPaid}, second.Events("one"))
	})
}

// TestManyOrdersKeepTheirOrder runs two relays, a channel that fails now and then, and orders that change meanwhile. It
// checks that every event is delivered, in its order.
func TestManyOrdersKeepTheirOrder(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Config.Batch, b.Config.Retries = 7, 100
		events := []string{notify.EventConfirmed, notify.EventExpired, notify.EventPaid, notify.EventRefundRequired}
		var mu sync.Mutex
		done, tries := map[string][]string{}, 0
		answer := func(m notify.Message) notify.Result {
			mu.Lock()
			defer mu.Unlock()
			if tries++; tries%5 == 0 {
				return notify.Retry("now and then")
			}
			done[m.OrderID] = append(done[m.OrderID], m.Event)
			return notify.Delivered()
		}
		relays := []*Relay{b.relay(outbox.NewRecorder("a", answer)), b.relay(outbox.NewRecorder("a", answer))}
		look := func() {
			var both sync.WaitGroup
			for _, r := range relays {
				both.Go(func() { _, err := r.step(t.Context(), r.loops[0]); assert.NoError(t, err) })
			}
			both.Wait()
		}
		const orders = 40
		for _, event := range events {
			for i := range orders {
				b.Queue(t, "a", fmt.Sprintf("order-%02d", i), event)
			}
			look()
			b.Clock.Advance(time.Second)
		}
		for range 1000 {
			look()
			b.Clock.Advance(time.Minute) // while nobody has a lease
			if len(b.Rows(t, notify.StateDelivered)) == orders*len(events) {
				break
			}
		}
		require.Len(t, b.Rows(t, notify.StateDelivered), orders*len(events))
		for order, delivered := range done {
			require.Equal(t, events, slices.Compact(slices.Clone(delivered)), order)
		}
		require.Len(t, done, orders)
	})
}

// TestAnEventThatOvertakesNothingWaitsItsTurn checks that refund events are delivered and cause no extra tries of
// earlier ones.
func TestAnEventThatOvertakesNothingWaitsItsTurn(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		ch := outbox.NewRecorder("a", func(notify.Message) notify.Result { return notify.Retry("away") })
		r := b.relay(latestRecorder{ch})
		b.Queue(t, "a", "one", notify.EventConfirmed)
		scanTimes(t, r, 1)
		b.Queue(t, "a", "one", notify.EventRefundRequired)
		scanTimes(t, r, 5)
		require.Equal(t, []string{notify.EventConfirmed}, ch.Events("one"))
		ch.Answer = outbox.Accept
		b.Clock.Advance(retryWait(b.Config, 1))
		scanTimes(t, r, 2)
		require.Equal(t, []string{notify.EventConfirmed, notify.EventConfirmed, notify.EventRefundRequired},
			ch.Events("one"))
	})
}
