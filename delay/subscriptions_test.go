package delay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/adminlog"
	"sluice/internal/invalid"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
)

func ids(list []Leased) []string {
	var found []string
	for _, l := range list {
		found = append(found, l.ID)
	}
	return found
}

func TestEachOfTenSubscriptionsGetsEveryMessage(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		r := newReceiver(t, acceptAll)
		w.topic("t", r.URL)
		for i := range 9 {
			w.subscribe("t", fmt.Sprint("s", i))
		}
		first := w.add("t", msg("a", 0), msg("b", time.Hour))
		require.Equal(t, first, w.add("t", msg("a", 0), msg("b", time.Hour)), "again")
		readers := w.readers()
		for i := range 9 {
			name := fmt.Sprint("s", i)
			got := w.receive(readers, name, 0)
			require.Equal(t, []string{"a"}, ids(got), name)
			require.JSONEq(t, `{"n":"a"}`, string(got[0].Body))
			stood, err := readers.Ack(t.Context(), name, []string{got[0].Lease})
			require.NoError(t, err)
			require.Equal(t, []bool{true}, stood)
		}
		w.startDispatcher()
		w.waitForState("t", "a", Delivered)
		require.Len(t, r.callsWith("t:a"), 1)
		copies, err := w.publisher().Show(t.Context(), "t", "b")
		require.NoError(t, err)
		require.Len(t, copies, 10)
		require.Equal(t, "t.default", copies[0].Subscription)
		require.NoError(t, w.publisher().Cancel(t.Context(), "t", "b"))
		copies, err = w.publisher().Show(t.Context(), "t", "b")
		require.NoError(t, err)
		for _, m := range copies {
			require.Equal(t, Cancelled, m.State, m.Subscription)
		}
		require.ErrorIs(t, w.publisher().Cancel(t.Context(), "t", "a"), ErrNotWaiting)
		require.ErrorIs(t, w.publisher().Cancel(t.Context(), "t", "never"), ErrNoMessage)
	})
}

func TestASubscriptionTakesWhatItsFilterTakes(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		w.topic("t", "")
		w.subscribe("t", "all")
		w.subscribe("t", "paid", func(c *SubscriptionChange) { c.Events = &[]string{"order.paid"} })
		w.subscribe("t", "flash", func(c *SubscriptionChange) { c.Sales = &[]string{"flash-*", "phone"} })
		w.subscribe("t", "both", func(c *SubscriptionChange) {
			c.Events, c.Sales = &[]string{"order.paid"}, &[]string{"flash-?"}
		})
		message := func(id, event, sale string) New {
			m := msg(id, 0)
			m.Event, m.Sale = event, sale
			return m
		}
		w.add("t", message("1", "order.paid", "flash-1"), message("2", "order.failed", "flash-22"),
			message("3", "order.paid", "phone"), message("4", "", ""))
		readers := w.readers()
		for name, want := range map[string][]string{"all": {"1", "2", "3", "4"}, "paid": {"1", "3"},
			"flash": {"1", "2", "3"}, "both": {"1"}} {
			require.Equal(t, want, ids(w.receive(readers, name, 0)), name)
		}
	})
}

// What a process adds that has not yet read of a subscription reaches it all the same, also when Redis lost everything.
func TestASubscriptionOfAMomentAgoMissesNothing(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		w.topic("t", "http://a.example")
		for round, lose := range []func(){func() {}, func() { require.NoError(t, w.rdb.FlushDB(t.Context()).Err()) }} {
			other := w.otherProcess()
			name := fmt.Sprint("s", round)
			w.subscribe("t", name)
			lose()
			other.add("t", msg(name, 0))
			require.Equal(t, []string{name}, ids(w.receive(w.readers(), name, 0)))
		}
		// Whoever made one may have died before it told Redis: another process does, as soon as it has read of it.
		other := w.otherProcess()
		w.subscribe("t", "late")
		require.NoError(t, w.rdb.Set(t.Context(), w.messages.topicKeys("t").version,
			other.topics.copy.Load().topics["t"].Version, 0).Err())
		require.NoError(t, w.topics.raiseChanged(t.Context()))
		other.add("t", msg("m", 0))
		require.Equal(t, []string{"m"}, ids(w.receive(w.readers(), "late", 0)))
		// The database was restored from a copy: what it says counts.
		require.NoError(t, w.rdb.Set(t.Context(), w.messages.topicKeys("t").version, int64(1)<<50, 0).Err())
		w.add("t", msg("n", 0))
		require.Equal(t, []string{"n"}, ids(w.receive(w.readers(), "late", 0)))
	})
}

func TestAFullSubscriptionHarmsNoOther(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		w.cfg.MaxMessages = 5
		w.messages.cfg.MaxMessages = 5
		w.topic("t", "")
		w.subscribe("t", "slow")
		w.subscribe("t", "quick")
		subs := w.topics.Subscriptions()
		quick, slow := subs[0], subs[1]
		full := make(chan FullReport, 100)
		d := w.dispatcher()
		d.onFull = func(_ context.Context, f FullReport) { full <- f }
		readers := w.readers()
		empty := func() {
			got := w.receive(readers, "quick", 0)
			for _, l := range got {
				_, err := readers.Ack(t.Context(), "quick", []string{l.Lease})
				require.NoError(t, err)
			}
		}
		w.add("t", msg("1", 0), msg("2", 0), msg("3", 0), msg("4", 0))
		empty()
		d.maintainAll(t.Context(), subs)
		require.Equal(t, FullReport{Subscription: slow, Unfinished: 4}, <-full, "told before it is full")
		w.add("t", msg("5", 0), msg("6", 0), msg("7", 0))
		require.Equal(t, []string{"5", "6", "7"}, ids(w.receive(readers, "quick", 0)))
		missed, failed := w.messages.Missed(t.Context(), []Subscription{slow, quick})
		require.NoError(t, errors.Join(failed...))
		require.Equal(t, []int64{2, 0}, missed)
		d.maintainAll(t.Context(), subs)
		require.Equal(t, FullReport{Subscription: slow, Unfinished: 5, Missed: 2}, <-full)
		second := w.dispatcher() // another process has nothing to add
		second.onFull = d.onFull
		second.maintainAll(t.Context(), subs)
		d.maintainAll(t.Context(), subs)
		require.Empty(t, full)
		require.Equal(t, 2.0, testutil.ToFloat64(d.metrics.missed.WithLabelValues("t", "slow")))
		require.Equal(t, 1.0, testutil.ToFloat64(d.metrics.full.WithLabelValues("t", "slow")))
		require.Equal(t, 8.0, testutil.ToFloat64(d.metrics.messages.WithLabelValues("t", Pending))+
			testutil.ToFloat64(d.metrics.messages.WithLabelValues("t", Firing)))

		w.add("t", msg("8", 0), msg("9", 0))
		_, err := w.publisher().Add(t.Context(), "t", []New{msg("10", 0)})
		require.ErrorIs(t, err, ErrFull, "all are full")
		_, err = w.messages.Show(t.Context(), quick, "10")
		require.ErrorIs(t, err, ErrNoMessage)
	})
}

func TestAChangeCountsAtOnceInEveryProcess(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		before, after := newReceiver(t, acceptAll), newReceiver(t, acceptAll)
		w.topic("t", before.URL)
		w.subscribe("t", "s", func(c *SubscriptionChange) { c.URL = &before.URL })
		other := w.otherProcess() // it reads the database never again by itself
		other.startDispatcher()
		w.add("t", msg("a", 0))
		w.waitForState("t", "a", Delivered)
		_, err := w.topics.Update(t.Context(), "t", Change{URL: &after.URL}, "ann", "moved")
		require.NoError(t, err)
		moved := SubscriptionChange{URL: &after.URL, Method: new("GET")}
		sub, err := w.topics.UpdateSubscription(t.Context(), "s", moved, "ann", "moved")
		require.NoError(t, err)
		w.add("t", msg("b", 0))
		w.waitForState("t", "b", Delivered)
		require.Eventually(t, func() bool {
			m, err := w.messages.Show(t.Context(), sub, "b")
			return err == nil && m.State == Delivered
		}, patience, time.Millisecond)
		require.Empty(t, before.callsWith("t:b"))
		require.Len(t, after.callsWith("t:b"), 2)
		_, err = w.topics.UpdateSubscription(t.Context(), "s", SubscriptionChange{Enabled: new(false)}, "ann", "")
		require.NoError(t, err)
		w.add("t", msg("c", 0))
		w.waitForState("t", "c", Delivered)
		m, err := w.messages.Show(t.Context(), sub, "c")
		require.NoError(t, err)
		require.Equal(t, Pending, m.State, "it is off")
	})
}

func TestADeletedSubscriptionLeavesNothing(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.topic("t", "http://a.example")
		w.subscribe("t", "s")
		w.add("t", msg("a", time.Hour))
		other := w.otherProcess()
		require.ErrorIs(t, w.topics.DeleteSubscription(ctx, Deletion{Name: "s"}, "ann", ""), ErrSubscriptionInUse)
		require.ErrorIs(t, w.topics.Delete(ctx, "t", "ann", ""), ErrSubscribed)
		require.NoError(t, w.topics.DeleteSubscription(ctx, Deletion{Name: "s", GiveUp: true}, "ann", "gone"))
		_, err := w.topics.Subscription(ctx, "s")
		require.ErrorIs(t, err, ErrNoSubscription)
		other.add("t", msg("b", time.Hour)) // it has not heard of it
		left, err := w.rdb.Keys(ctx, "sluice:delay:{t}:s:*").Result()
		require.NoError(t, err)
		require.Empty(t, left)
		_, err = other.readers().Receive(ctx, "s", 1, time.Second)
		require.ErrorIs(t, err, ErrNoSubscription)
		w.subscribe("t", "s")
		require.Empty(t, w.receive(w.readers(), "s", 0), "it begins anew")

		require.NoError(t, w.topics.DeleteSubscription(ctx, Deletion{Name: "s"}, "ann", ""))
		require.ErrorIs(t, w.topics.DeleteSubscription(ctx, Deletion{Name: "t.default"}, "ann", ""), ErrTopicInUse)
		require.NoError(t, w.topics.DeleteSubscription(ctx, Deletion{Name: "t.default", GiveUp: true}, "ann", ""))
		_, err = w.publisher().Add(ctx, "t", []New{msg("c", 0)})
		require.ErrorIs(t, err, ErrUnsubscribed)
		require.NoError(t, w.topics.Delete(ctx, "t", "ann", ""))
	})
}

func TestSubscriptionsOnEveryDatabase(t *testing.T) {
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testkit.Embedded(t).Addr(), d, testConfig())
			ctx := t.Context()
			w.topic("t", "http://a.example")
			made := w.subscribe("t", "s", func(c *SubscriptionChange) {
				c.URL, c.Sales = new("https://b.example/hook"), &[]string{"b", "a-*", "b"}
			})
			require.Equal(t, Push, made.Kind)
			require.Equal(t, []string{"a-*", "b"}, made.SaleList())
			require.True(t, validSecret(made.Secret))
			read, err := w.topics.Subscription(ctx, "s")
			require.NoError(t, err)
			require.Equal(t, made, read)
			read, err = w.otherProcess().topics.Subscription(ctx, "s")
			require.NoError(t, err)
			require.Equal(t, made, read)
			change := SubscriptionChange{Enabled: new(false), Sales: &[]string{}, Retries: new(0)}
			after, err := w.topics.UpdateSubscription(ctx, "s", change, "bob", "moved")
			require.NoError(t, err)
			require.NoError(t, w.topics.Refresh(ctx))
			require.Equal(t, after, w.topics.Of("t")[1], "zero values are stored too")
			own, err := w.topics.UpdateSubscription(ctx, "t.default", SubscriptionChange{Retries: new(3)}, "bob", "")
			require.NoError(t, err)
			require.Equal(t, 3, own.Retries)
			require.Equal(t, own, w.topics.Of("t")[0])
			require.NoError(t, w.topics.DeleteSubscription(ctx, Deletion{Name: "s"}, "bob", "gone"))
			require.ErrorIs(t, w.topics.DeleteSubscription(ctx, Deletion{Name: "s"}, "bob", ""), ErrNoSubscription)

			entries, err := adminlog.New(w.db, quiet(), time.Now, 0).List(ctx, adminlog.Filter{}, 0, 9)
			require.NoError(t, err)
			var actions []string
			for _, e := range entries {
				actions = append(actions, e.Action+" "+e.Target)
				require.NotContains(t, e.BeforeValue+e.AfterValue, secretPrefix)
			}
			require.Equal(t, []string{"subscription.delete s", "topic.update t", "subscription.update s",
				"subscription.create s", "topic.create t"}, actions)
		})
	}
}

func TestWhatASubscriptionMustBe(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t, func(c *Config) { c.MaxSubscriptions = 1 })
	ctx := t.Context()
	w.topic("t", "http://a.example")
	address := "https://b.example"
	for field, ch := range map[string]SubscriptionChange{
		"url":           {URL: new("ftp://b.example")},
		"method":        {URL: &address, Method: new("DELETE")},
		"method must":   {Method: new("POST")},
		"timeout_ms":    {URL: &address, TimeoutMS: new(int64(31_000))},
		"lease_ms":      {LeaseMS: new(int64(999))},
		"lease_ms must": {LeaseMS: new(int64(13 * 3600_000))},
		"retries":       {Retries: new(101)},
		"retry_unit_ms": {RetryUnitMS: new(int64(1))},
		"alert":         {Alert: new("nobody")},
		"owner":         {Owner: new(strings.Repeat("x", 129))},
		"secret":        {URL: &address, Secret: new("whsec_c2hvcnQ=")},
		"secret must":   {Secret: new(newSecret())},
		"events":        {Events: &[]string{"a b"}},
		"sales":         {Sales: &[]string{"[a"}},
	} {
		_, err := w.topics.CreateSubscription(ctx, NewSubscription{Name: "s", Topic: "t"}, ch, "ann", "")
		_, bad := errors.AsType[invalid.Error](err)
		require.True(t, bad, "%s: %v", field, err)
		require.ErrorContains(t, err, field)
	}
	create := func(n NewSubscription) error {
		_, err := w.topics.CreateSubscription(ctx, n, SubscriptionChange{}, "ann", "")
		return err
	}
	require.ErrorContains(t, create(NewSubscription{Name: "t.default", Topic: "t"}), "name must be")
	require.ErrorContains(t, create(NewSubscription{Name: "s", Topic: "t", Kind: "both"}), "kind must be")
	require.ErrorIs(t, create(NewSubscription{Name: "s", Topic: "none"}), ErrNoTopic)
	w.subscribe("t", "s")
	require.ErrorIs(t, create(NewSubscription{Name: "u", Topic: "t"}), ErrManySubscriptions)
	w.topic("u", "")
	require.ErrorIs(t, create(NewSubscription{Name: "s", Topic: "u"}), ErrSubscriptionExists, "of another topic")
	_, err := w.topics.UpdateSubscription(ctx, "t.default", SubscriptionChange{LeaseMS: new(int64(1000))}, "ann", "")
	require.ErrorContains(t, err, "lease_ms")
	_, err = w.topics.UpdateSubscription(ctx, "none", SubscriptionChange{}, "ann", "")
	require.ErrorIs(t, err, ErrNoSubscription)
}

// hangsUp ends a caller's context while Redis is asked to forget a topic.
type hangsUp struct {
	gone   string
	hangUp context.CancelFunc
}

func (h hangsUp) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hangsUp) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h hangsUp) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if strings.HasPrefix(cmd.Name(), "evalsha") && len(cmd.Args()) > 6 && cmd.Args()[6] == h.gone {
			h.hangUp()
		}
		return err
	}
}

// A topic is deleted or it lives on: whoever hangs up half way leaves nothing in between (case D19).
func TestADeletionIsNotCutOffByItsCaller(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	w.topic("t", "http://a.example")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.rdb.AddHook(hangsUp{w.messages.topicKeys("t").gone, cancel})
	require.NoError(t, w.topics.Delete(ctx, "t", "ann", ""))
	require.Error(t, ctx.Err(), "it hung up")
	_, err := w.topics.Get(t.Context(), "t")
	require.ErrorIs(t, err, ErrNoTopic)
}
