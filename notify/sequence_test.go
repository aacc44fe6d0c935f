package notify

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

// queueEvents adds events of one order, in this order.
func (b *bench) queueEvents(t *testing.T, channel, order string, events ...string) {
	t.Helper()
	for _, event := range events {
		row := Row{OrderID: order, Event: event, Channel: channel, SaleID: "s1", UserID: "u1",
			CreatedAt: b.clock.Now().UnixMilli()}
		require.NoError(t, b.db.Tx(t.Context(), func(tx *gorm.DB) error { return Insert(tx, []Row{row}) }))
	}
}

// events returns what a channel was given of one order, tries that failed included.
func (c *recorder) events(order string) (events []string) {
	for _, m := range c.messages() {
		if m.OrderID == order {
			events = append(events, m.Event)
		}
	}
	return events
}

// latestRecorder is a recorder that implements Latest.
type latestRecorder struct{ *recorder }

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
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		away := true
		ch := &recorder{name: "a", answer: func(m Message) Result {
			if away && m.OrderID == "one" {
				return Retry("away")
			}
			return Delivered()
		}}
		r := b.relay(ch)
		b.queueEvents(t, "a", "one", EventConfirmed)
		scanTimes(t, r, 1)
		b.queueEvents(t, "a", "one", EventExpired, EventPaid)
		b.queueEvents(t, "a", "two", EventConfirmed, EventPaid)
		scanTimes(t, r, 5)
		require.Equal(t, []string{EventConfirmed}, ch.events("one"), "nothing while it waits for its next try")
		require.Equal(t, []string{EventConfirmed, EventPaid}, ch.events("two"), "others do not wait for it")
		looks := len(ch.messages())
		scanTimes(t, r, 3)
		require.Len(t, ch.messages(), looks)
		b.clock.Advance(b.cfg.wait(1))
		scanTimes(t, r, 3)
		require.Equal(t, []string{EventConfirmed, EventConfirmed}, ch.events("one"))
		away = false
		b.clock.Advance(b.cfg.wait(2))
		scanTimes(t, r, 4)
		require.Equal(t, []string{EventConfirmed, EventConfirmed, EventConfirmed, EventExpired, EventPaid},
			ch.events("one"))
		require.Len(t, b.rows(t, StateDelivered), 5)
	})
}

// TestWhatComesAfterADeadEventIsDelivered checks that a dead event no longer delays later ones.
func TestWhatComesAfterADeadEventIsDelivered(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		ch := &recorder{name: "a", answer: func(m Message) Result {
			if m.Event == EventConfirmed {
				return Permanent("no such thing")
			}
			return Delivered()
		}}
		b.queueEvents(t, "a", "one", EventConfirmed, EventPaid)
		scanTimes(t, b.relay(ch), 2)
		require.Equal(t, []string{EventConfirmed, EventPaid}, ch.events("one"))
	})
}

// TestTwoRelaysKeepTheOrderOfOneOrder checks that two relays do not deliver events of one order at the same time.
func TestTwoRelaysKeepTheOrderOfOneOrder(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		first, second := &recorder{name: "a", answer: accept}, &recorder{name: "a", answer: accept}
		slow, quick := b.relay(first), b.relay(second)
		b.queueEvents(t, "a", "one", EventConfirmed)
		leased, err := slow.lease(t.Context(), slow.loops[0])
		require.NoError(t, err)
		require.Len(t, leased.rows, 1)
		b.queueEvents(t, "a", "one", EventPaid)
		b.queueEvents(t, "a", "two", EventConfirmed)
		scanTimes(t, quick, 3)
		require.Empty(t, second.events("one"), "the other relay has what comes before")
		require.Equal(t, []string{EventConfirmed}, second.events("two"))
		require.NoError(t, slow.storeResults(t.Context(), slow.loops[0], leased, []Result{Delivered()}, false))
		b.clock.Advance(blockedAgain)
		scanTimes(t, quick, 2)
		require.Equal(t, []string{EventPaid}, second.events("one"))
	})
}

// TestManyOrdersKeepTheirOrder runs two relays, a channel that fails now and then, and orders that change meanwhile. It
// checks that every event is delivered, in its order.
func TestManyOrdersKeepTheirOrder(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Batch, b.cfg.Retries = 7, 100
		events := []string{EventConfirmed, EventExpired, EventPaid, EventRefundRequired}
		var mu sync.Mutex
		done, tries := map[string][]string{}, 0
		answer := func(m Message) Result {
			mu.Lock()
			defer mu.Unlock()
			if tries++; tries%5 == 0 {
				return Retry("now and then")
			}
			done[m.OrderID] = append(done[m.OrderID], m.Event)
			return Delivered()
		}
		relays := []*Relay{b.relay(&recorder{name: "a", answer: answer}), b.relay(&recorder{name: "a", answer: answer})}
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
				b.queueEvents(t, "a", fmt.Sprintf("order-%02d", i), event)
			}
			look()
			b.clock.Advance(time.Second)
		}
		for range 1000 {
			look()
			b.clock.Advance(time.Minute) // while nobody has a lease
			if len(b.rows(t, StateDelivered)) == orders*len(events) {
				break
			}
		}
		require.Len(t, b.rows(t, StateDelivered), orders*len(events))
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
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		ch := &recorder{name: "a", answer: func(Message) Result { return Retry("away") }}
		r := b.relay(latestRecorder{ch})
		b.queueEvents(t, "a", "one", EventConfirmed)
		scanTimes(t, r, 1)
		b.queueEvents(t, "a", "one", EventRefundRequired)
		scanTimes(t, r, 5)
		require.Equal(t, []string{EventConfirmed}, ch.events("one"))
		ch.answer = accept
		b.clock.Advance(b.cfg.wait(1))
		scanTimes(t, r, 2)
		require.Equal(t, []string{EventConfirmed, EventConfirmed, EventRefundRequired}, ch.events("one"))
	})
}
