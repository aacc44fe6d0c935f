package push_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/push"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/topics"
)

// addMany adds n messages, numbered from 0, that are due now.
func addMany(w *topics.World, topic string, n int) {
	for i := range n {
		w.Add(topic, topics.Message(fmt.Sprint(i), 0))
	}
}

// waitForAll waits until n messages of a topic are delivered, and checks that none died.
func waitForAll(t *testing.T, w *topics.World, topic string, n int64) {
	t.Helper()
	done := w.Key(delay.OwnOf(topic), "done")
	require.Eventually(t, func() bool { return w.Redis.LLen(t.Context(), done).Val() == n }, topics.Patience,
		2*time.Millisecond)
	require.Zero(t, w.Redis.ZCard(t.Context(), w.Key(delay.OwnOf(topic), "dead")).Val())
}

// TestReceiversThatHangLeaveSlotsToOthers lets seven receivers hang that could have all slots. None of their calls
// ends.
func TestReceiversThatHangLeaveSlotsToOthers(t *testing.T) {
	t.Parallel()
	w := topics.Real(t, func(c *delay.Config) { c.Workers, c.PerTopic, c.Poll = 64, 16, 50*time.Millisecond })
	var hanging atomic.Int64
	hang := providers.NewReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		hanging.Add(1)
		<-r.Context().Done()
	})
	well := providers.NewReceiver(t, providers.AcceptAll)
	for i := range 7 {
		name := fmt.Sprint("hangs-", i)
		w.Topic(name, hang.URL, func(c *delay.Change) { c.TimeoutMS = new(int64(30_000)) })
		w.Fill(name, "m", 100, func(int) time.Time { return time.Now() })
	}
	w.Topic("well", well.URL)
	w.Dispatch(func(p *push.DispatcherParts) { p.Config.Grace = 0 })
	require.Eventually(t, func() bool { return hanging.Load() >= 60 }, topics.Patience, time.Millisecond)
	began := time.Now()
	w.Fill("well", "m", 100, func(int) time.Time { return time.Now() })
	waitForAll(t, w, "well", 100)
	require.Less(t, time.Since(began), 25*time.Second, "it waited for calls that hang")
	require.LessOrEqual(t, hanging.Load(), int64(64-16+4+3+3+2), "of the last quarter each has a quarter of the rest")
}

// TestAMessageThatIsRefusedIsNoFaultOfItsReceiver lets a receiver refuse more messages than open its breaker. Then the
// others would wait for an hour.
func TestAMessageThatIsRefusedIsNoFaultOfItsReceiver(t *testing.T) {
	t.Parallel()
	for status, attempts := range map[int]int{http.StatusBadRequest: 2, http.StatusRequestURITooLong: 2,
		http.StatusRequestHeaderFieldsTooLarge: 2, http.StatusRequestEntityTooLarge: 1,
		http.StatusUnprocessableEntity: 1, http.StatusGone: 1} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			w := topics.Embedded(t, func(c *delay.Config) { c.Pause = time.Hour })
			r := providers.NewReceiver(t, providers.Status(status))
			w.Topic("t", r.URL, func(c *delay.Change) { c.Method, c.Retries = new("GET"), new(1) })
			w.Dispatch()
			addMany(w, "t", 20)
			for i := range 20 {
				require.Equal(t, attempts, w.WaitForState("t", fmt.Sprint(i), delay.Dead).Attempts)
			}
		})
	}
}

// TestAReceiverThatWasAwayLosesNoMessage lets a receiver refuse for longer than any message's schedule lasts.
func TestAReceiverThatWasAwayLosesNoMessage(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusUnauthorized, http.StatusFound,
		http.StatusInternalServerError} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			w := topics.Embedded(t, func(c *delay.Config) { c.Pause = 20 * time.Millisecond })
			var well atomic.Bool
			r := providers.NewReceiver(t, func(w http.ResponseWriter, r *http.Request) {
				if !well.Load() {
					w.WriteHeader(status)
					return
				}
				providers.AcceptAll(w, r)
			})
			// A schedule of 10 + 30 ms: one that counted would be over long before the 60th call.
			w.Topic("t", r.URL, func(c *delay.Change) { c.Retries = new(2) })
			addMany(w, "t", 20) // first: were there only two for a while, they would be over by their schedule
			reg, down := prometheus.NewRegistry(), make(chan push.DownReport, 10)
			w.Dispatch(func(p *push.DispatcherParts) {
				p.Registry = reg
				p.OnDown = func(_ context.Context, r push.DownReport) { down <- r }
			})
			require.Eventually(t, func() bool { return len(r.Calls()) >= 60 }, topics.Patience, time.Millisecond)
			require.Equal(t, "t.default", (<-down).Subscription.Name, "operators hear of it")
			require.Empty(t, w.Dead())
			require.Positive(t, w.Value(reg, "sluice_subscription_pause_seconds", "t"))
			pauses, failed := w.Messages.Pauses(t.Context(), []delay.Subscription{delay.OwnOf("t")})
			require.NoError(t, failed[0])
			require.Equal(t, fmt.Sprint("the receiver answered ", status), pauses[0].Why)
			well.Store(true)
			waitForAll(t, w, "t", 20)
			require.Eventually(t, func() bool {
				pauses, _ := w.Messages.Pauses(t.Context(), []delay.Subscription{delay.OwnOf("t")})
				return pauses[0].Until.IsZero() && w.Value(reg, "sluice_subscription_pause_seconds", "t") == 0
			}, topics.Patience, 10*time.Millisecond, "it is called again, and shown so")
			require.Empty(t, down, "once for each outage")
		})
	}
}

// TestAPoliteReceiverIsLeftAloneAsItAsked checks that one answer with Retry-After holds all messages of a subscription.
func TestAPoliteReceiverIsLeftAloneAsItAsked(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	var asked atomic.Int64 // unix ns
	r := providers.NewReceiver(t, flaky(1, func(w http.ResponseWriter, _ *http.Request) {
		asked.Store(time.Now().UnixNano())
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	w.Topic("t", r.URL, func(c *delay.Change) { c.Retries = new(0) })
	w.Dispatch()
	w.Add("t", topics.Message("first", 0))
	require.Eventually(t, func() bool { return asked.Load() > 0 }, topics.Patience, time.Millisecond)
	require.Eventually(t, func() bool { return w.Show("t", "first").State == delay.Pending }, topics.Patience,
		time.Millisecond, "put off")
	addMany(w, "t", 20)
	waitForAll(t, w, "t", 21)
	require.Equal(t, 1, w.Show("t", "first").Attempts, "the call that was put off is not counted")
	for _, call := range r.Calls()[1:] {
		require.GreaterOrEqual(t, call.At.UnixNano()-asked.Load(), int64(900*time.Millisecond))
	}
}

// TestAPoisonedMessageHoldsUpNoOther fails each call with some messages of many. They die, the others arrive.
func TestAPoisonedMessageHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t, func(c *delay.Config) { c.Pause = 20 * time.Millisecond })
	var mu sync.Mutex
	poison := map[string]bool{"t:3": true, "t:7": true}
	r := providers.NewReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		bad := poison[r.Header.Get("webhook-id")]
		mu.Unlock()
		if bad {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		providers.AcceptAll(w, r)
	})
	w.Topic("t", r.URL, func(c *delay.Change) { c.Retries = new(3) })
	w.Dispatch()
	addMany(w, "t", 50)
	require.Equal(t, 4, w.WaitForState("t", "3", delay.Dead).Attempts)
	w.WaitForState("t", "7", delay.Dead)
	done := w.Key(delay.OwnOf("t"), "done")
	require.Eventually(t, func() bool { return w.Redis.LLen(t.Context(), done).Val() == 48 }, topics.Patience,
		time.Millisecond)
}

// TestAReceiverThatIsGoneForGoodCostsAttempts moves the clock by a day, after which failures count again.
func TestAReceiverThatIsGoneForGoodCostsAttempts(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t, func(c *delay.Config) { c.Pause = 5 * time.Millisecond })
	r := providers.NewReceiver(t, providers.Status(http.StatusNotFound))
	w.Topic("t", r.URL, func(c *delay.Change) { c.Retries = new(1) })
	var later atomic.Int64
	w.Dispatch(func(p *push.DispatcherParts) {
		p.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	addMany(w, "t", 10)
	require.Eventually(t, func() bool { return len(r.Calls()) > 40 }, topics.Patience, time.Millisecond)
	require.Empty(t, w.Dead())
	later.Store(int64(25 * time.Hour))
	for i := range 10 {
		w.WaitForState("t", fmt.Sprint(i), delay.Dead)
	}
}

// TestAChangedSubscriptionIsCalledAtOnce changes the address of a receiver that is left alone for an hour.
func TestAChangedSubscriptionIsCalledAtOnce(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t, func(c *delay.Config) { c.Pause = time.Hour })
	bad, good := providers.NewReceiver(t, providers.Status(http.StatusBadGateway)),
		providers.NewReceiver(t, providers.AcceptAll)
	w.Topic("t", bad.URL)
	w.Dispatch()
	addMany(w, "t", 20)
	require.Eventually(t, func() bool { return len(bad.Calls()) >= 5 }, topics.Patience, time.Millisecond)
	_, err := w.Topics.Update(t.Context(), "t", delay.Change{URL: &good.URL}, "ann", "moved")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(good.Calls()) > 0 }, topics.Patience, time.Millisecond)
}
