package delay

import (
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/notify/webhook"
)

func TestADueMessageIsDeliveredSignedAndOnTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.Redis(t).Addr(), tables.New(t, "sqlite"), testConfig())
	r := newReceiver(t, acceptAll)
	topic := w.topic("t", r.URL, func(c *Change) { c.Method = new("PUT") })
	w.startDispatcher()
	due := w.add("t", msg("now", 0), msg("soon", 300*time.Millisecond), msg("later", time.Hour))
	require.Equal(t, 1, w.waitForState("t", "soon", Delivered).Attempts)
	require.Equal(t, Delivered, w.show("t", "now").State)
	require.Equal(t, Pending, w.show("t", "later").State)

	calls := r.callsWith("t:soon")
	require.Len(t, calls, 1)
	call := calls[0]
	require.False(t, call.at.Before(due[1]), "it came %s too early", due[1].Sub(call.at))
	require.Equal(t, "PUT", call.method)
	require.JSONEq(t, `{"n":"soon"}`, call.body)
	require.Equal(t, "t:soon", call.header.Get("Idempotency-Key"))
	require.Equal(t, "application/json", call.header.Get("Content-Type"))
	verifier, err := webhook.NewVerifier(time.Now, topic.Secret)
	require.NoError(t, err)
	require.NoError(t, verifier.Verify(call.header, []byte(call.body)))
	require.ErrorIs(t, verifier.Verify(call.header, []byte(call.body+" ")), webhook.ErrBadSignature)
}

// flaky returns a handler that answers the first n calls with refuse and accepts the others.
func flaky(n int64, refuse http.HandlerFunc) http.HandlerFunc {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if seen.Add(1) <= n {
			refuse(w, r)
			return
		}
		acceptAll(w, r)
	}
}

func TestAFailedCallIsRepeatedWithTheSameID(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]http.HandlerFunc{
		"500": answerWith(http.StatusInternalServerError),
		"404": answerWith(http.StatusNotFound),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere",
				http.StatusFound)
		},
		"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"dies":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := embeddedWorld(t)
			r := newReceiver(t, flaky(2, refuse))
			w.topic("t", r.URL+"/hook", func(c *Change) {
				if name == "hangs" {
					c.TimeoutMS = new(int64(1000))
				}
			})
			w.startDispatcher()
			w.add("t", msg("a", 0))
			require.Equal(t, 3, w.waitForState("t", "a", Delivered).Attempts)
			calls := r.callsWith("t:a")
			require.Len(t, calls, 3, "redirects are not followed")
			for i, c := range calls {
				require.Equal(t, calls[0].body, c.body)
				require.Equal(t, strconv.Itoa(i+1), c.header.Get("Sluice-Attempt"))
			}
			require.GreaterOrEqual(t, calls[1].at.Sub(calls[0].at), 10*time.Millisecond)
			require.GreaterOrEqual(t, calls[2].at.Sub(calls[1].at), 30*time.Millisecond, "1, 3, 5 … units")
		})
	}
}

func TestWhatCannotBeDeliveredDiesAndIsReported(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	r := newReceiver(t, answerWith(http.StatusBadGateway))
	w.topic("t", r.URL, func(c *Change) { c.Retries, c.Alert = new(2), new("ops@shop.example") })
	f, _ := w.startDispatcher()
	w.add("t", msg("a", 0))
	m := w.waitForState("t", "a", Dead)
	require.Equal(t, 3, m.Attempts)
	require.Equal(t, "the receiver answered 502", m.Error)
	require.Len(t, r.allCalls(), 3)
	require.Eventually(t, func() bool { return len(w.reported()) == 1 }, patience, time.Millisecond)
	death := w.reported()[0]
	require.Equal(t, "ops@shop.example", death.Subscription.Alert)
	require.Equal(t, DeadReport{Subscription: death.Subscription, Count: 1, ID: "a",
		Error: "the receiver answered 502"}, death)
	require.Equal(t, 2.0, testutil.ToFloat64(f.metrics.calls.WithLabelValues("t", countRetry)))
	require.Equal(t, 1.0, testutil.ToFloat64(f.metrics.calls.WithLabelValues("t", countDead)))
	require.Eventually(t, func() bool {
		return testutil.ToFloat64(f.metrics.messages.WithLabelValues("t",
			Dead)) == 1
	}, patience, time.Millisecond)
}

func TestGoneMeansNoMore(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	r := newReceiver(t, answerWith(http.StatusGone))
	w.topic("t", r.URL)
	w.startDispatcher()
	w.add("t", msg("a", 0))
	require.Equal(t, 1, w.waitForState("t", "a", Dead).Attempts)
}

func TestAShortRetryAfterUsesUpNoAttempts(t *testing.T) {
	t.Parallel()
	for status, header := range map[int]string{http.StatusServiceUnavailable: "1",
		http.StatusInternalServerError: "3000"} {
		w := embeddedWorld(t)
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(status)
		})
		w.topic("t", r.URL, func(c *Change) { c.RetryUnitMS = new(time.Minute.Milliseconds()) })
		w.startDispatcher()
		w.add("t", msg("a", 0))
		m := w.waitForState("t", "a", Retrying)
		require.WithinRange(t, m.DueAt, time.Now().Add(50*time.Second), time.Now().Add(61*time.Second), "answered %d",
			status)
	}
}

// panicking is an HTTP transport that panics.
type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("a fault of ours") }

func TestACallThatPanicsUsesUpItsAttempts(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	w.topic("t", "https://a.example", func(c *Change) { c.Retries = new(2) })
	f := w.dispatcher()
	f.caller.client.Transport = panicking{}
	w.run(f)
	w.add("t", msg("a", 0))
	m := w.waitForState("t", "a", Dead)
	require.Equal(t, 3, m.Attempts)
	require.Equal(t, "the call panicked", m.Error)
}

func TestACallEndsBeforeItsLease(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	release := make(chan struct{})
	defer close(release)
	r := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	w.topic("t", r.URL, func(c *Change) { c.TimeoutMS = new(int64(20_000)) })
	w.cfg.Lease = 2 * time.Second // shorter than when the topic was made
	w.startDispatcher()
	w.add("t", msg("a", 0))
	require.Equal(t, "no answer in time", w.waitForState("t", "a", Retrying).Error)
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	w.topic("t", r.URL)
	w.startDispatcher()
	w.add("t", msg("a", 0))
	m := w.waitForState("t", "a", Retrying)
	require.WithinRange(t, m.DueAt, time.Now().Add(9*time.Minute), time.Now().Add(10*time.Minute+time.Second))

	c := &caller{now: time.Now}
	require.Equal(t, maxRetryAfter, c.retryAfter("99999"))
	require.Zero(t, c.retryAfter("soon"))
	require.Zero(t, c.retryAfter(time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)))
	require.InDelta(t, 120, c.retryAfter(time.Now().Add(2*time.Minute).UTC().Format(http.TimeFormat)).Seconds(), 3)
}

func TestPrivateAddressesAreNotCalled(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t, func(c *Config) { c.AllowPrivate = false })
	r := newReceiver(t, acceptAll)
	w.topic("t", r.URL, func(c *Change) { c.Retries = new(0) })
	w.startDispatcher()
	w.add("t", msg("a", 0))
	require.Contains(t, w.waitForState("t", "a", Dead).Error, "delay.allow_private")
	require.Empty(t, r.allCalls())
}

func TestMessagesOfATopicThatIsOffWait(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	off, on := newReceiver(t, acceptAll), newReceiver(t, acceptAll)
	w.topic("off", off.URL, func(c *Change) { c.Enabled = new(false) })
	w.topic("on", on.URL)
	w.startDispatcher()
	w.add("off", msg("a", 0))
	w.add("on", msg("a", 0))
	w.waitForState("on", "a", Delivered)
	require.Equal(t, Pending, w.show("off", "a").State)
	_, err := w.topics.Update(t.Context(), "off", Change{Enabled: new(true)}, "ann", "")
	require.NoError(t, err)
	w.waitForState("off", "a", Delivered)
	require.Len(t, off.allCalls(), 1)
}

func TestASlowReceiverHoldsUpNoOtherTopic(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t, func(c *Config) { c.Workers, c.PerTopic = 8, 4 })
	release := make(chan struct{})
	var waiting atomic.Int64
	shop := newReceiver(t, func(w http.ResponseWriter, r *http.Request) { // both topics are of one host
		if r.URL.Path == "/slow" {
			waiting.Add(1)
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		acceptAll(w, r)
	})
	w.topic("slow", shop.URL+"/slow")
	w.topic("quick", shop.URL+"/quick", func(c *Change) { c.TimeoutMS = new(int64(500)) })
	for i := range 20 {
		w.add("slow", msg(strconv.Itoa(i), 0))
	}
	w.startDispatcher()
	require.Eventually(t, func() bool { return waiting.Load() == 4 }, patience, time.Millisecond)
	for i := range 20 {
		w.add("quick", msg(strconv.Itoa(i), 0))
	}
	for i := range 20 {
		require.Equal(t, 1, w.waitForState("quick", strconv.Itoa(i), Delivered).Attempts)
	}
	require.EqualValues(t, 4, waiting.Load(), "never more than delay.per_topic at a time")
	counts, failed := w.messages.Count(t.Context(), w.topics.Subscriptions())
	require.NoError(t, errors.Join(failed...))
	require.Equal(t, Counts{Pending: 16, Firing: 4}, counts[1], "nothing is claimed without a worker for it")
	close(release)
	for i := range 20 {
		w.waitForState("slow", strconv.Itoa(i), Delivered)
	}
}

func TestStoppingFinishesOrHandsBack(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t, func(c *Config) { c.Grace = 50 * time.Millisecond })
	entered := make(chan struct{}, 1)
	r := newReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	})
	w.topic("t", r.URL)
	_, stop := w.startDispatcher()
	due := w.add("t", msg("a", 0))
	<-entered
	stop()
	m := w.show("t", "a")
	require.Equal(t, Pending, m.State)
	require.Zero(t, m.Attempts, "the cut off call is not counted")
	require.Equal(t, due[0], m.DueAt, "and keeps its place")
}

func TestTwoDispatchersDeliverEachMessageOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.Redis(t).Addr(), tables.New(t, "sqlite"), testConfig())
	r := newReceiver(t, acceptAll)
	w.topic("t", r.URL)
	w.startDispatcher()
	w.startDispatcher()
	const n = 500
	w.fill("t", "m", n, func(i int) time.Time { return time.Now().Add(time.Duration(i) * time.Millisecond) })
	done := subscriptionKeys("sluice", ownOf("t")).done
	require.Eventually(t, func() bool { return w.rdb.LLen(t.Context(), done).Val() == n },
		patience, 5*time.Millisecond)
	seen := map[string]int{}
	for _, h := range r.allCalls() {
		seen[h.header.Get("webhook-id")]++
	}
	require.Len(t, seen, n)
	require.Len(t, r.allCalls(), n, "nobody failed, so none was repeated")
}

func TestADeadRedisIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	w := newWorld(t, server.Addr(), tables.New(t, "sqlite"), testConfig())
	entered := make(chan struct{}, 1)
	release := make(chan struct{})
	r := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case entered <- struct{}{}:
			<-release
		default:
		}
		acceptAll(w, r)
	})
	w.topic("t", r.URL)
	w.startDispatcher()
	w.add("t", msg("a", 0), msg("b", time.Second))
	<-entered
	server.Kill()
	close(release)
	server.Start()
	w.waitForState("t", "a", Delivered)
	w.waitForState("t", "b", Delivered)
	require.Len(t, r.callsWith("t:b"), 1)
}

func TestASecretThatIsReplacedStillSigns(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	r := newReceiver(t, acceptAll)
	old := w.topic("t", r.URL).Secret
	_, err := w.topics.Update(t.Context(), "t", Change{Secret: new(newSecret())}, "ann", "")
	require.NoError(t, err)
	fresh, err := w.topics.Get(t.Context(), "t")
	require.NoError(t, err)
	w.startDispatcher()
	w.add("t", msg("a", 0))
	w.waitForState("t", "a", Delivered)
	for _, secret := range []string{old, fresh.Secret} {
		verifier, err := webhook.NewVerifier(time.Now, secret)
		require.NoError(t, err)
		require.NoError(t, verifier.Verify(r.allCalls()[0].header, []byte(r.allCalls()[0].body)))
	}
}

func TestABodyOfAnyKindArrivesAsItWas(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	r := newReceiver(t, acceptAll)
	w.topic("t", r.URL)
	w.startDispatcher()
	for id, body := range map[string]string{"null": "null", "text": `"é\n\t世界"`, "spaced": "{ \"a\":\t[1,\n2] }"} {
		w.add("t", New{ID: id, Body: []byte(body)})
		w.waitForState("t", id, Delivered)
		require.Equal(t, body, r.callsWith("t:" + id)[0].body)
		w.add("t", New{ID: id, Body: []byte(body)}) // known by its digest
	}
}
