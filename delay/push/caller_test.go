package push_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/push"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/topics"
	"sluice/notify"
	"sluice/notify/webhook"
)

// flaky returns a handler that answers the first n calls with refuse and accepts the others.
func flaky(n int64, refuse http.HandlerFunc) http.HandlerFunc {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if seen.Add(1) <= n {
			refuse(w, r)
			return
		}
		providers.AcceptAll(w, r)
	}
}

func TestAFailedCallIsRepeatedWithTheSameID(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]http.HandlerFunc{
		"500": providers.Status(http.StatusInternalServerError),
		"404": providers.Status(http.StatusNotFound),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere",
				http.StatusFound)
		},
		"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"dies":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := topics.Embedded(t)
			r := providers.NewReceiver(t, flaky(2, refuse))
			w.Topic("t", r.URL+"/hook", func(c *delay.Change) {
				if name == "hangs" {
					c.TimeoutMS = new(int64(1000))
				}
			})
			w.Dispatch()
			w.Add("t", topics.Message("a", 0))
			require.Equal(t, 3, w.WaitForState("t", "a", delay.Delivered).Attempts)
			calls := r.CallsWith("t:a")
			require.Len(t, calls, 3, "redirects are not followed")
			for i, c := range calls {
				require.Equal(t, calls[0].Body, c.Body)
				require.Equal(t, strconv.Itoa(i+1), c.Header.Get("Sluice-Attempt"))
			}
			require.GreaterOrEqual(t, calls[1].At.Sub(calls[0].At), 10*time.Millisecond)
			require.GreaterOrEqual(t, calls[2].At.Sub(calls[1].At), 30*time.Millisecond, "1, 3, 5 … units")
		})
	}
}

func TestWhatCannotBeDeliveredDiesAndIsReported(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	r := providers.NewReceiver(t, providers.Status(http.StatusBadGateway))
	w.Topic("t", r.URL, func(c *delay.Change) { c.Retries, c.Alert = new(2), new("ops@shop.example") })
	reg := prometheus.NewRegistry()
	w.Dispatch(func(p *push.DispatcherParts) { p.Registry = reg })
	w.Add("t", topics.Message("a", 0))
	m := w.WaitForState("t", "a", delay.Dead)
	require.Equal(t, 3, m.Attempts)
	require.Equal(t, "the receiver answered 502", m.Error)
	require.Len(t, r.Calls(), 3)
	require.Eventually(t, func() bool { return len(w.Dead()) == 1 }, topics.Patience, time.Millisecond)
	death := w.Dead()[0]
	require.Equal(t, "ops@shop.example", death.Subscription.Alert)
	require.Equal(t, message.DeadReport{Subscription: death.Subscription, Count: 1, ID: "a",
		Error: "the receiver answered 502"}, death)
	require.Equal(t, 2.0, w.Value(reg, "sluice_delay_fired_total", "t", message.CountRetry))
	require.Equal(t, 1.0, w.Value(reg, "sluice_delay_fired_total", "t", message.CountDead))
	require.Eventually(t, func() bool {
		return w.Value(reg, "sluice_delay_messages", "t", delay.Dead) == 1
	}, topics.Patience, time.Millisecond)
}

func TestGoneMeansNoMore(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	r := providers.NewReceiver(t, providers.Status(http.StatusGone))
	w.Topic("t", r.URL)
	w.Dispatch()
	w.Add("t", topics.Message("a", 0))
	require.Equal(t, 1, w.WaitForState("t", "a", delay.Dead).Attempts)
}

func TestARetryAfterOfAFaultAsksForNothing(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	r := providers.NewReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3000")
		w.WriteHeader(http.StatusInternalServerError)
	})
	w.Topic("t", r.URL, func(c *delay.Change) { c.RetryUnitMS = new(time.Minute.Milliseconds()) })
	w.Dispatch()
	w.Add("t", topics.Message("a", 0))
	m := w.WaitForState("t", "a", delay.Retrying)
	require.WithinRange(t, m.DueAt, time.Now().Add(30*time.Second), time.Now().Add(61*time.Second))
}

// panicking is an HTTP transport that panics.
type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("a fault of ours") }

func TestACallThatPanicsUsesUpItsAttempts(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	w.Topic("t", "https://a.example", func(c *delay.Change) { c.Retries = new(2) })
	d := w.Dispatcher()
	d.CallBy(panicking{})
	w.Run(d)
	w.Add("t", topics.Message("a", 0))
	m := w.WaitForState("t", "a", delay.Dead)
	require.Equal(t, 3, m.Attempts)
	require.Equal(t, "the call panicked", m.Error)
}

func TestACallEndsBeforeItsLease(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	release := make(chan struct{})
	defer close(release)
	r := providers.NewReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	w.Topic("t", r.URL, func(c *delay.Change) { c.TimeoutMS = new(int64(20_000)) })
	w.Config.Lease = 2 * time.Second // shorter than when the topic was made
	w.Dispatch()
	w.Add("t", topics.Message("a", 0))
	require.Equal(t, "no answer in time", w.WaitForState("t", "a", delay.Retrying).Error)
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	r := providers.NewReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	w.Topic("t", r.URL)
	w.Dispatch()
	due := w.Add("t", topics.Message("a", 0))
	var m delay.Message
	require.Eventually(t, func() bool {
		m = w.Show("t", "a")
		return m.State == delay.Pending && m.DueAt.After(due[0])
	}, topics.Patience, time.Millisecond)
	require.Zero(t, m.Attempts)
	require.WithinRange(t, m.DueAt, time.Now().Add(9*time.Minute), time.Now().Add(10*time.Minute+time.Second))
}

func TestPrivateAddressesAreNotCalled(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t, func(c *delay.Config) { c.AllowPrivate = false })
	r := providers.NewReceiver(t, providers.AcceptAll)
	w.Topic("t", r.URL, func(c *delay.Change) { c.Retries = new(0) })
	w.Dispatch()
	w.Add("t", topics.Message("a", 0))
	require.Contains(t, w.WaitForState("t", "a", delay.Dead).Error, "delay.allow_private")
	require.Empty(t, r.Calls())
}

func TestASecretThatIsReplacedStillSigns(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	r := providers.NewReceiver(t, providers.AcceptAll)
	old := w.Topic("t", r.URL).Secret
	secret := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	_, err := w.Topics.Update(t.Context(), "t", delay.Change{Secret: &secret}, "ann", "")
	require.NoError(t, err)
	fresh, err := w.Topics.Get(t.Context(), "t")
	require.NoError(t, err)
	w.Dispatch()
	w.Add("t", topics.Message("a", 0))
	w.WaitForState("t", "a", delay.Delivered)
	for _, secret := range []string{old, fresh.Secret} {
		verifier, err := webhook.NewVerifier(time.Now, secret)
		require.NoError(t, err)
		require.NoError(t, verifier.Verify(r.Calls()[0].Header, []byte(r.Calls()[0].Body)))
	}
}

func TestABodyOfAnyKindArrivesAsItWas(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	r := providers.NewReceiver(t, providers.AcceptAll)
	w.Topic("t", r.URL)
	w.Dispatch()
	for id, body := range map[string]string{"null": "null", "text": `"é\n\t世界"`, "spaced": "{ \"a\":\t[1,\n2] }"} {
		w.Add("t", delay.New{ID: id, Body: []byte(body)})
		w.WaitForState("t", id, delay.Delivered)
		require.Equal(t, body, r.CallsWith("t:" + id)[0].Body)
		w.Add("t", delay.New{ID: id, Body: []byte(body)}) // known by its digest
	}
}

func TestASimpleReceiverGetsTheMessageInTheQuery(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	queries := make(chan url.Values, 1)
	r := providers.NewReceiver(t, func(rw http.ResponseWriter, req *http.Request) {
		queries <- req.URL.Query()
		providers.AcceptAll(rw, req)
	})
	w.Topic("t", "")
	sub := w.Subscribe("t", "s", func(c *delay.SubscriptionChange) {
		c.URL, c.Method = new(r.URL+"/hook?key=1"), new("GET")
	})
	w.Dispatch()
	w.Add("t", topics.Message("a", 0))
	query := <-queries
	require.Equal(t, url.Values{"key": {"1"}, "id": {"a"}, "topic": {"t"}, "attempt": {"1"}, "body": {`{"n":"a"}`}},
		query)
	call := r.Calls()[0]
	require.Equal(t, "GET", call.Method)
	require.Empty(t, call.Body)
	require.Equal(t, "s", call.Header.Get("Sluice-Subscription"))
	verifier, err := webhook.NewVerifier(time.Now, sub.Secret)
	require.NoError(t, err)
	require.NoError(t, verifier.Verify(call.Header, []byte(query.Get("body"))))
}

// A call is a CloudEvent in the binary content mode, also where the message is in the query.
func TestACallIsACloudEvent(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	r := providers.NewReceiver(t, providers.AcceptAll)
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		w.Topic(method, r.URL, func(c *delay.Change) { c.Method, c.Events = new(method), &[]string{"order.paid"} })
	}
	at := time.UnixMilli(1_700_000_000_120)
	require.Equal(t, []notify.Result{notify.Delivered()}, w.Events().Deliver(t.Context(), []notify.Message{
		{OrderID: "o1", Event: "order.paid", SaleID: "phone", UserID: "u", CreatedAt: at}}))
	own := topics.Message("m1", 0)
	own.Event = "order.paid" // as a publisher may say
	w.Add("POST", own)
	w.Dispatch()
	for topic, id := range map[string]string{"POST": "o1:order.paid", "GET": "o1:order.paid"} {
		w.WaitForState(topic, id, delay.Delivered)
		h := r.CallsWith(topic + ":" + id)[0].Header
		for name, want := range map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": "/sluice/orders",
			"ce-type": "order.paid", "ce-subject": "o1", "ce-time": "2023-11-14T22:13:20.120Z", "ce-sale": "phone"} {
			require.Equal(t, want, h.Get(name), "%s of %s", name, topic)
		}
	}
	w.WaitForState("POST", "m1", delay.Delivered)
	h := r.CallsWith("POST:m1")[0].Header
	require.Equal(t, []string{"m1", "/sluice/topics/POST", "message.order.paid", ""},
		[]string{h.Get("ce-id"), h.Get("ce-source"), h.Get("ce-type"), h.Get("ce-subject")})
	require.Equal(t, "application/json", h.Get("Content-Type"))
}
