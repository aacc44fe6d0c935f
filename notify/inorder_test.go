package notify

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

// tell adds events of one order, in this order.
func (b *bench) tell(t *testing.T, channel, order string, events ...string) {
	t.Helper()
	for _, event := range events {
		row := Row{OrderID: order, Event: event, Channel: channel, SaleID: "s1", UserID: "u1", CreatedAt: b.clock.Now().UnixMilli()}
		require.NoError(t, b.db.Tx(t.Context(), func(tx *gorm.DB) error { return Insert(tx, []Row{row}) }))
	}
}

// told is what a channel was given of one order, tries that failed included.
func (c *recorder) told(order string) (events []string) {
	for _, m := range c.messages() {
		if m.OrderID == order {
			events = append(events, m.Event)
		}
	}
	return events
}

// latestRecorder is a recorder of a channel that tells how things stand.
type latestRecorder struct{ *recorder }

func (latestRecorder) Latest() bool { return true }

// steps lets a relay's only lane look so often.
func steps(t *testing.T, r *Relay, n int) {
	t.Helper()
	for range n {
		_, err := r.step(t.Context(), r.lanes[0])
		require.NoError(t, err)
	}
}

// A channel that other systems read gets every event of an order, one after the other, whatever must be repeated.
func TestEventsOfOneOrderGoOutInTheirOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		away := true
		ch := &recorder{name: "a", answer: func(m Message) Result {
			if away && m.OrderID == "one" {
				return Retry("away")
			}
			return Delivered()
		}}
		r := b.relay(ch)
		b.tell(t, "a", "one", EventConfirmed)
		steps(t, r, 1)
		b.tell(t, "a", "one", EventExpired, EventPaid)
		b.tell(t, "a", "two", EventConfirmed, EventPaid)
		steps(t, r, 5)
		require.Equal(t, []string{EventConfirmed}, ch.told("one"), "nothing while it waits for its next try")
		require.Equal(t, []string{EventConfirmed, EventPaid}, ch.told("two"), "others do not wait for it")
		looks := len(ch.messages())
		steps(t, r, 3)
		require.Len(t, ch.messages(), looks)
		b.clock.Advance(b.cfg.wait(1))
		steps(t, r, 3)
		require.Equal(t, []string{EventConfirmed, EventConfirmed}, ch.told("one"))
		away = false
		b.clock.Advance(b.cfg.wait(2))
		steps(t, r, 4)
		require.Equal(t, []string{EventConfirmed, EventConfirmed, EventConfirmed, EventExpired, EventPaid}, ch.told("one"))
		require.Len(t, b.rows(t, StateDelivered), 5)
	})
}

// What was given up on holds up nothing any more.
func TestWhatComesAfterADeadEventIsTold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		ch := &recorder{name: "a", answer: func(m Message) Result {
			if m.Event == EventConfirmed {
				return Permanent("no such thing")
			}
			return Delivered()
		}}
		b.tell(t, "a", "one", EventConfirmed, EventPaid)
		steps(t, b.relay(ch), 2)
		require.Equal(t, []string{EventConfirmed, EventPaid}, ch.told("one"))
	})
}

// Nor do two relays tell of one order side by side.
func TestTwoRelaysKeepTheOrderOfOneOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		first, second := &recorder{name: "a", answer: accept}, &recorder{name: "a", answer: accept}
		slow, quick := b.relay(first), b.relay(second)
		b.tell(t, "a", "one", EventConfirmed)
		leased, err := slow.lease(t.Context(), slow.lanes[0])
		require.NoError(t, err)
		require.Len(t, leased.rows, 1)
		b.tell(t, "a", "one", EventPaid)
		b.tell(t, "a", "two", EventConfirmed)
		steps(t, quick, 3)
		require.Empty(t, second.told("one"), "the other relay has what comes before")
		require.Equal(t, []string{EventConfirmed}, second.told("two"))
		require.NoError(t, slow.settle(t.Context(), slow.lanes[0], leased, []Result{Delivered()}, false))
		b.clock.Advance(blockedAgain)
		steps(t, quick, 2)
		require.Equal(t, []string{EventPaid}, second.told("one"))
	})
}

// Two relays, a channel that fails now and then, and orders that go on meanwhile: of each order all is told, in its order.
func TestManyOrdersKeepTheirOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
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
				both.Go(func() { _, err := r.step(t.Context(), r.lanes[0]); assert.NoError(t, err) })
			}
			both.Wait()
		}
		const orders = 40
		for _, event := range events {
			for i := range orders {
				b.tell(t, "a", fmt.Sprintf("order-%02d", i), event)
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
		for order, told := range done {
			require.Equal(t, events, slices.Compact(slices.Clone(told)), order)
		}
		require.Len(t, done, orders)
	})
}

// Money that must go back is told, too, and is no reason to try an earlier message more often.
func TestNewsThatOvertakesNothingWaitsItsTurn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		ch := &recorder{name: "a", answer: func(Message) Result { return Retry("away") }}
		r := b.relay(latestRecorder{ch})
		b.tell(t, "a", "one", EventConfirmed)
		steps(t, r, 1)
		b.tell(t, "a", "one", EventRefundRequired)
		steps(t, r, 5)
		require.Equal(t, []string{EventConfirmed}, ch.told("one"))
		ch.answer = accept
		b.clock.Advance(b.cfg.wait(1))
		steps(t, r, 2)
		require.Equal(t, []string{EventConfirmed, EventConfirmed, EventRefundRequired}, ch.told("one"))
	})
}

// standing are orders that shoppers are told of.
type standing struct {
	mu     sync.Mutex
	status map[string]string
}

func (s *standing) set(order, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status[order] = status
}

func (s *standing) lookup(_ context.Context, ids []string) (map[string]Recipient, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]Recipient{}
	for _, id := range ids {
		to := ann()
		to.Locale, to.Status = English, s.status[id]
		found[id] = to
	}
	return found, nil
}

// subjects are those of the mails that a server has taken, in their order.
func (s *smtpServer) subjects() (list []string) {
	for _, mail := range s.received() {
		for line := range strings.Lines(mail) {
			if text, ok := strings.CutPrefix(line, "Subject: "); ok {
				list = append(list, strings.TrimSpace(text))
			}
		}
	}
	return list
}

// The mail server is away while an order expires. When it is back the shopper reads what is true, in its order, and nothing else.
func TestTheMailServerIsAwayWhileAnOrderExpires(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		server := newSMTPServer(t, func(*smtpServer) {})
		away := func(step, _ string) string {
			if step == "connect" {
				return "421 come back later"
			}
			return ""
		}
		server.answer(away)
		orders := &standing{status: map[string]string{"expires": "confirmed", "stays": "confirmed"}}
		cfg := server.config()
		cfg.Failures = 1000
		outlet, err := newOutlet(cfg.OutletConfig, emailFor(t, cfg), orders.lookup, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, outlet.close()) })
		r := b.relay(outlet)
		run(t, r)

		b.tell(t, "email", "expires", EventConfirmed)
		b.tell(t, "email", "stays", EventConfirmed)
		tried := func(event string, attempts int) func() bool {
			return func() bool {
				return slices.ContainsFunc(b.rows(t, StatePending), func(row Row) bool {
					return row.OrderID == "expires" && row.Event == event && row.Attempts == attempts && row.NextAt > 0 && row.Lease == 0
				})
			}
		}
		require.Eventually(t, tried(EventConfirmed, 1), eventually, time.Millisecond)
		orders.set("expires", "expired")
		b.tell(t, "email", "expires", EventExpired)
		require.Eventually(t, tried(EventExpired, 1), eventually, time.Millisecond, "it does not wait for what it has overtaken")
		overtaken := b.waitFor(t, StateOvertaken, 1)[0]
		require.Equal(t, "expires:"+EventConfirmed, overtaken.OrderID+":"+overtaken.Event)
		require.Equal(t, "not sent: the order is expired by now", overtaken.LastError)
		require.Equal(t, b.clock.Now().UnixMilli(), overtaken.DeliveredAt)
		require.EqualValues(t, 1, counted(r, "email", countOvertaken))
		listed, _, err := NewDesk(b.db.Write, b.db.Read, b.clock.Now, func() {}).List(t.Context(), StateOvertaken, "email", "", 10)
		require.NoError(t, err)
		require.Equal(t, []Row{overtaken}, listed)

		server.answer(func(string, string) string { return "" })
		require.Eventually(t, func() bool {
			b.clock.Advance(time.Second)
			return len(b.rows(t, StateDelivered)) == 2
		}, eventually, time.Millisecond)
		require.ElementsMatch(t, []string{"Order expired: Phone <X>", "Order confirmed: Phone <X>"}, server.subjects())

		// It is paid after all: what comes later is told, later.
		orders.set("expires", "paid")
		b.tell(t, "email", "expires", EventPaid)
		r.Poke()
		b.waitFor(t, StateDelivered, 3)
		require.Equal(t, "Payment received: Phone <X>", server.subjects()[2])

		b.clock.Advance(b.cfg.Keep + time.Minute)
		require.NoError(t, r.sweep(t.Context(), "email"))
		require.Empty(t, b.rows(t, StateOvertaken), "it is forgotten like what was delivered")
	})
}

// What an operator tries again long afterwards is held against how things stand, too; other systems get it.
func TestARevivedMessageThatIsNoLongerTrue(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		orders := &standing{status: map[string]string{"one": "cancelled"}}
		for tag, newest := range map[string]bool{"email": true, "webhook": false} {
			p := &probe{tag: tag, newest: newest, does: func(context.Context, Message) Result { return Delivered() }}
			r := b.relay(openOutlet(t, quickOutlet(), p, orders.lookup))
			b.tell(t, tag, "one", EventConfirmed, EventCancelled)
			require.NoError(t, b.db.Write.Exec("UPDATE outbox SET state = ? WHERE event = ? AND channel = ?", StateDead, EventConfirmed, tag).Error)
			steps(t, r, 1)
			require.NoError(t, NewDesk(b.db.Write, b.db.Read, b.clock.Now, func() {}).Retry(t.Context(), "one", EventConfirmed, tag, nil))
			steps(t, r, 1)
			require.EqualValues(t, map[bool]float64{true: 1, false: 0}[newest], counted(r, tag, countOvertaken), tag)
			require.EqualValues(t, map[bool]float64{true: 1, false: 2}[newest], counted(r, tag, countDelivered), tag)
		}
	})
}
