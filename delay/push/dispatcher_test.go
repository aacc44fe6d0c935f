package push_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/push"
	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/tables"
	"sluice/internal/testkit/topics"
	"sluice/notify/webhook"
)

func TestADueMessageIsDeliveredSignedAndOnTime(t *testing.T) {
	t.Parallel()
	w := topics.Real(t)
	r := providers.NewReceiver(t, providers.AcceptAll)
	topic := w.Topic("t", r.URL, func(c *delay.Change) { c.Method = new("PUT") })
	w.Dispatch()
	due := w.Add("t", topics.Message("now", 0), topics.Message("soon", 300*time.Millisecond),
		topics.Message("later", time.Hour))
	require.Equal(t, 1, w.WaitForState("t", "soon", delay.Delivered).Attempts)
	require.Equal(t, delay.Delivered, w.Show("t", "now").State)
	require.Equal(t, delay.Pending, w.Show("t", "later").State)

	calls := r.CallsWith("t:soon")
	require.Len(t, calls, 1)
	call := calls[0]
	require.False(t, call.At.Before(due[1]), "it came %s too early", due[1].Sub(call.At))
	require.Equal(t, "PUT", call.Method)
	require.JSONEq(t, `{"n":"soon"}`, call.Body)
	require.Equal(t, "t:soon", call.Header.Get("Idempotency-Key"))
	require.Equal(t, "application/json", call.Header.Get("Content-Type"))
	verifier, err := webhook.NewVerifier(time.Now, topic.Secret)
	require.NoError(t, err)
	require.NoError(t, verifier.Verify(call.Header, []byte(call.Body)))
	require.ErrorIs(t, verifier.Verify(call.Header, []byte(call.Body+" ")), webhook.ErrBadSignature)
}

func TestMessagesOfATopicThatIsOffWait(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	off, on := providers.NewReceiver(t, providers.AcceptAll), providers.NewReceiver(t, providers.AcceptAll)
	w.Topic("off", off.URL, func(c *delay.Change) { c.Enabled = new(false) })
	w.Topic("on", on.URL)
	w.Dispatch()
	w.Add("off", topics.Message("a", 0))
	w.Add("on", topics.Message("a", 0))
	w.WaitForState("on", "a", delay.Delivered)
	require.Equal(t, delay.Pending, w.Show("off", "a").State)
	_, err := w.Topics.Update(t.Context(), "off", delay.Change{Enabled: new(true)}, "ann", "")
	require.NoError(t, err)
	w.WaitForState("off", "a", delay.Delivered)
	require.Len(t, off.Calls(), 1)
}

func TestASlowReceiverHoldsUpNoOtherTopic(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t, func(c *delay.Config) { c.Workers, c.PerTopic = 8, 4 })
	release := make(chan struct{})
	var waiting atomic.Int64
	shop := providers.NewReceiver(t, func(w http.ResponseWriter, r *http.Request) { // both topics are of one host
		if r.URL.Path == "/slow" {
			waiting.Add(1)
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		providers.AcceptAll(w, r)
	})
	w.Topic("slow", shop.URL+"/slow")
	w.Topic("quick", shop.URL+"/quick", func(c *delay.Change) { c.TimeoutMS = new(int64(500)) })
	for i := range 20 {
		w.Add("slow", topics.Message(strconv.Itoa(i), 0))
	}
	w.Dispatch()
	require.Eventually(t, func() bool { return waiting.Load() == 4 }, topics.Patience, time.Millisecond)
	for i := range 20 {
		w.Add("quick", topics.Message(strconv.Itoa(i), 0))
	}
	for i := range 20 {
		require.Equal(t, 1, w.WaitForState("quick", strconv.Itoa(i), delay.Delivered).Attempts)
	}
	require.EqualValues(t, 4, waiting.Load(), "never more than delay.per_topic at a time")
	counts, failed := w.Messages.Count(t.Context(), w.Topics.Subscriptions())
	require.NoError(t, errors.Join(failed...))
	require.Equal(t, message.Counts{Pending: 16, Firing: 4}, counts[1], "nothing is claimed without a worker for it")
	close(release)
	for i := range 20 {
		w.WaitForState("slow", strconv.Itoa(i), delay.Delivered)
	}
}

func TestStoppingFinishesOrHandsBack(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t, func(c *delay.Config) { c.Grace = 50 * time.Millisecond })
	entered := make(chan struct{}, 1)
	r := providers.NewReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	})
	w.Topic("t", r.URL)
	stop := w.Dispatch()
	due := w.Add("t", topics.Message("a", 0))
	<-entered
	stop()
	m := w.Show("t", "a")
	require.Equal(t, delay.Pending, m.State)
	require.Zero(t, m.Attempts, "the cut off call is not counted")
	require.Equal(t, due[0], m.DueAt, "and keeps its place")
}

func TestTwoDispatchersDeliverEachMessageOnce(t *testing.T) {
	t.Parallel()
	w := topics.Real(t)
	r := providers.NewReceiver(t, providers.AcceptAll)
	w.Topic("t", r.URL)
	w.Dispatch()
	w.Dispatch()
	const n = 500
	w.Fill("t", "m", n, func(i int) time.Time { return time.Now().Add(time.Duration(i) * time.Millisecond) })
	done := w.Key(delay.OwnOf("t"), "done")
	require.Eventually(t, func() bool { return w.Redis.LLen(t.Context(), done).Val() == n },
		topics.Patience, 5*time.Millisecond)
	seen := map[string]int{}
	for _, h := range r.Calls() {
		seen[h.Header.Get("webhook-id")]++
	}
	require.Len(t, seen, n)
	require.Len(t, r.Calls(), n, "nobody failed, so none was repeated")
}

func TestADeadRedisIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	w := topics.New(t, server.Addr(), tables.New(t, "sqlite"), topics.Config())
	entered := make(chan struct{}, 1)
	release := make(chan struct{})
	r := providers.NewReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case entered <- struct{}{}:
			<-release
		default:
		}
		providers.AcceptAll(w, r)
	})
	w.Topic("t", r.URL)
	w.Dispatch()
	w.Add("t", topics.Message("a", 0), topics.Message("b", time.Second))
	<-entered
	server.Kill()
	close(release)
	server.Start()
	w.WaitForState("t", "a", delay.Delivered)
	w.WaitForState("t", "b", delay.Delivered)
	require.Len(t, r.CallsWith("t:b"), 1)
}

func TestAFullSubscriptionHarmsNoOther(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		w.Topic("t", "")
		w.Subscribe("t", "slow")
		w.Subscribe("t", "quick")
		subs := w.Topics.Subscriptions()
		quick, slow := subs[0], subs[1]
		full := make(chan push.FullReport, 100)
		reg := prometheus.NewRegistry()
		onFull := func(_ context.Context, f push.FullReport) { full <- f }
		d := w.Dispatcher(func(p *push.DispatcherParts) { p.OnFull, p.Registry = onFull, reg })
		readers := w.Readers()
		empty := func() {
			got := w.Receive(readers, "quick", 0)
			for _, l := range got {
				_, err := readers.Ack(t.Context(), "quick", []string{l.Lease})
				require.NoError(t, err)
			}
		}
		w.Add("t", topics.Message("1", 0), topics.Message("2", 0), topics.Message("3", 0), topics.Message("4", 0))
		empty()
		d.MaintainAll(t.Context(), subs)
		require.Equal(t, push.FullReport{Subscription: slow, Unfinished: 4}, <-full, "told before it is full")
		w.Add("t", topics.Message("5", 0), topics.Message("6", 0), topics.Message("7", 0))
		require.Equal(t, []string{"5", "6", "7"}, topics.IDs(w.Receive(readers, "quick", 0)))
		missed, failed := w.Messages.Missed(t.Context(), []delay.Subscription{slow, quick})
		require.NoError(t, errors.Join(failed...))
		require.Equal(t, []int64{2, 0}, missed)
		d.MaintainAll(t.Context(), subs)
		require.Equal(t, push.FullReport{Subscription: slow, Unfinished: 5, Missed: 2}, <-full)
		// Another process has nothing to add.
		second := w.Dispatcher(func(p *push.DispatcherParts) { p.OnFull = onFull })
		second.MaintainAll(t.Context(), subs)
		d.MaintainAll(t.Context(), subs)
		require.Empty(t, full)
		require.Equal(t, 2.0, w.Value(reg, "sluice_subscription_missed_messages", "slow"))
		require.Equal(t, 1.0, w.Value(reg, "sluice_subscription_fill_ratio", "slow"))
		require.Equal(t, 8.0, w.Value(reg, "sluice_delay_messages", "t", delay.Pending)+
			w.Value(reg, "sluice_delay_messages", "t", delay.Firing))

		w.Add("t", topics.Message("8", 0), topics.Message("9", 0))
		_, err := w.Publisher().Add(t.Context(), "t", []delay.New{topics.Message("10", 0)})
		require.ErrorIs(t, err, delay.ErrFull, "all are full")
		_, err = w.Messages.Show(t.Context(), quick, "10")
		require.ErrorIs(t, err, delay.ErrNoMessage)
	}, func(c *delay.Config) { c.MaxMessages = 5 })
}

// Readers that died held more messages than one call reclaims.
func TestAllExpiredLeasesEndInOneTurn(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	w.Topic("t", "")
	sub := w.Subscribe("t", "s")
	w.Fill("t", "m", 2500, func(int) time.Time { return time.Now() })
	readers := w.Readers()
	for _, most := range []int{1000, 1000, 500} {
		got, err := readers.Receive(t.Context(), "s", 1000, 0)
		require.NoError(t, err)
		require.Len(t, got, most)
	}
	firing := w.Key(sub, "firing")
	require.NoError(t, w.Redis.Do(t.Context(), "ZUNIONSTORE", firing, 1, firing, "WEIGHTS", 0).Err())
	w.Dispatcher().MaintainAll(t.Context(), []delay.Subscription{sub})
	counts, failed := w.Messages.Count(t.Context(), []delay.Subscription{sub})
	require.NoError(t, errors.Join(failed...))
	require.Equal(t, message.Counts{Retrying: 2500}, counts[0])
}
