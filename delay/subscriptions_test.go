package delay_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/adminlog"
	"sluice/delay"
	"sluice/internal/invalid"
	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/tables"
	"sluice/internal/testkit/topics"
)

func TestAChangeCountsAtOnceInEveryProcess(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		before, after := providers.NewReceiver(t, providers.AcceptAll), providers.NewReceiver(t, providers.AcceptAll)
		w.Topic("t", before.URL)
		w.Subscribe("t", "s", func(c *delay.SubscriptionChange) { c.URL = &before.URL })
		other := w.OtherProcess() // it reads the database never again by itself
		other.Dispatch()
		w.Add("t", topics.Message("a", 0))
		w.WaitForState("t", "a", delay.Delivered)
		_, err := w.Topics.Update(t.Context(), "t", delay.Change{URL: &after.URL}, "ann", "moved")
		require.NoError(t, err)
		moved := delay.SubscriptionChange{URL: &after.URL, Method: new("GET")}
		sub, err := w.Topics.UpdateSubscription(t.Context(), "s", moved, "ann", "moved")
		require.NoError(t, err)
		w.Add("t", topics.Message("b", 0))
		w.WaitForState("t", "b", delay.Delivered)
		require.Eventually(t, func() bool {
			m, err := w.Messages.Show(t.Context(), sub, "b")
			return err == nil && m.State == delay.Delivered
		}, topics.Patience, time.Millisecond)
		require.Empty(t, before.CallsWith("t:b"))
		require.Len(t, after.CallsWith("t:b"), 2)
		_, err = w.Topics.UpdateSubscription(t.Context(), "s", delay.SubscriptionChange{Enabled: new(false)}, "ann", "")
		require.NoError(t, err)
		w.Add("t", topics.Message("c", 0))
		w.WaitForState("t", "c", delay.Delivered)
		m, err := w.Messages.Show(t.Context(), sub, "c")
		require.NoError(t, err)
		require.Equal(t, delay.Pending, m.State, "it is off")
	})
}

func TestADeletedSubscriptionLeavesNothing(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		w.Topic("t", "http://a.example")
		w.Subscribe("t", "s")
		w.Add("t", topics.Message("a", time.Hour))
		other := w.OtherProcess()
		require.ErrorIs(t, w.Topics.DeleteSubscription(ctx, delay.Deletion{Name: "s"}, "ann", ""),
			delay.ErrSubscriptionInUse)
		require.ErrorIs(t, w.Topics.Delete(ctx, "t", "ann", ""), delay.ErrSubscribed)
		require.NoError(t, w.Topics.DeleteSubscription(ctx, delay.Deletion{Name: "s", GiveUp: true}, "ann", "gone"))
		_, err := w.Topics.Subscription(ctx, "s")
		require.ErrorIs(t, err, delay.ErrNoSubscription)
		other.Add("t", topics.Message("b", time.Hour)) // it has not heard of it
		left, err := w.Redis.Keys(ctx, "sluice:delay:{t}:s:*").Result()
		require.NoError(t, err)
		require.Empty(t, left)
		_, err = other.Readers().Receive(ctx, "s", 1, time.Second)
		require.ErrorIs(t, err, delay.ErrNoSubscription)
		w.Subscribe("t", "s")
		require.Empty(t, w.Receive(w.Readers(), "s", 0), "it begins anew")

		require.NoError(t, w.Topics.DeleteSubscription(ctx, delay.Deletion{Name: "s"}, "ann", ""))
		require.ErrorIs(t, w.Topics.DeleteSubscription(ctx, delay.Deletion{Name: "t.default"}, "ann", ""),
			delay.ErrTopicInUse)
		var bad invalid.Error
		require.ErrorAs(t, w.Topics.DeleteSubscription(ctx, delay.Deletion{Name: "t.default", GiveUp: true}, "ann",
			strings.Repeat("x", 201)), &bad)
		require.Equal(t, delay.Pending, w.Show("t", "a").State, "what is refused gives nothing up")
		missed := w.Key(delay.OwnOf("t"), "missed")
		require.NoError(t, w.Redis.Set(ctx, missed, 3, 0).Err())
		require.NoError(t, w.Topics.DeleteSubscription(ctx, delay.Deletion{Name: "t.default", GiveUp: true}, "ann", ""))
		left, err = w.Redis.Keys(ctx, "sluice:delay:{t}:*").Result()
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"sluice:delay:{t}:version", "sluice:delay:{t}:added"}, left)
		_, err = w.Publisher().Add(ctx, "t", []delay.New{topics.Message("c", 0)})
		require.ErrorIs(t, err, delay.ErrUnsubscribed)
		// The process that ended a URL died before it had removed the messages.
		require.NoError(t, w.Redis.HSet(ctx, w.Key(delay.OwnOf("t"), "messages"), "a", "w\t1\t1\t{}").Err())
		_, err = w.Topics.Update(ctx, "t", delay.Change{URL: new("http://b.example")}, "ann", "")
		require.NoError(t, err)
		w.Add("t", topics.Message("a", 0))
		require.NoError(t, w.Messages.Cancel(ctx, w.Own("t"), "a"), "it begins anew")
		require.NoError(t, w.Redis.Set(ctx, missed, 3, 0).Err())
		require.NoError(t, w.Topics.Delete(ctx, "t", "ann", ""))
		left, err = w.Redis.Keys(ctx, "sluice:delay:{t}:*").Result()
		require.NoError(t, err)
		require.Equal(t, []string{"sluice:delay:{t}:gone"}, left)
	})
}

func TestSubscriptionsOnEveryDatabase(t *testing.T) {
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			w := topics.New(t, testkit.Embedded(t).Addr(), d, topics.Config())
			ctx := t.Context()
			w.Topic("t", "http://a.example")
			made := w.Subscribe("t", "s", func(c *delay.SubscriptionChange) {
				c.URL, c.Sales = new("https://b.example/hook"), &[]string{"b", "a-*", "b"}
			})
			require.Equal(t, delay.Push, made.Kind)
			require.Equal(t, []string{"a-*", "b"}, made.SaleList())
			require.True(t, delay.ValidSecret(made.Secret))
			read, err := w.Topics.Subscription(ctx, "s")
			require.NoError(t, err)
			require.Equal(t, made, read)
			read, err = w.OtherProcess().Topics.Subscription(ctx, "s")
			require.NoError(t, err)
			require.Equal(t, made, read)
			change := delay.SubscriptionChange{Enabled: new(false), Sales: &[]string{}, Retries: new(0)}
			after, err := w.Topics.UpdateSubscription(ctx, "s", change, "bob", "moved")
			require.NoError(t, err)
			require.NoError(t, w.Topics.Refresh(ctx))
			require.Equal(t, after, w.Topics.Of("t")[1], "zero values are stored too")
			own, err := w.Topics.UpdateSubscription(ctx, "t.default", delay.SubscriptionChange{Retries: new(3)},
				"bob", "")
			require.NoError(t, err)
			require.Equal(t, 3, own.Retries)
			require.Equal(t, own, w.Topics.Of("t")[0])
			require.NoError(t, w.Topics.DeleteSubscription(ctx, delay.Deletion{Name: "s"}, "bob", "gone"))
			require.ErrorIs(t, w.Topics.DeleteSubscription(ctx, delay.Deletion{Name: "s"}, "bob", ""),
				delay.ErrNoSubscription)

			entries, err := adminlog.New(w.DB, topics.Quiet(), time.Now, 0).List(ctx, adminlog.Filter{}, 0, 9)
			require.NoError(t, err)
			var actions []string
			for _, e := range entries {
				actions = append(actions, e.Action+" "+e.Target)
				require.NotContains(t, e.BeforeValue+e.AfterValue, delay.SecretPrefix)
			}
			require.Equal(t, []string{"subscription.delete s", "topic.update t", "subscription.update s",
				"subscription.create s", "topic.create t"}, actions)
		})
	}
}

func TestWhatASubscriptionMustBe(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t, func(c *delay.Config) { c.MaxSubscriptions = 1 })
	ctx := t.Context()
	w.Topic("t", "http://a.example")
	address := "https://b.example"
	for field, ch := range map[string]delay.SubscriptionChange{
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
		"secret must":   {Secret: new(delay.NewSecret())},
		"events":        {Events: &[]string{"a b"}},
		"sales":         {Sales: &[]string{"[a"}},
	} {
		_, err := w.Topics.CreateSubscription(ctx, delay.NewSubscription{Name: "s", Topic: "t"}, ch, "ann", "")
		_, bad := errors.AsType[invalid.Error](err)
		require.True(t, bad, "%s: %v", field, err)
		require.ErrorContains(t, err, field)
	}
	create := func(n delay.NewSubscription) error {
		_, err := w.Topics.CreateSubscription(ctx, n, delay.SubscriptionChange{}, "ann", "")
		return err
	}
	require.ErrorContains(t, create(delay.NewSubscription{Name: "t.default", Topic: "t"}), "name must be")
	require.ErrorContains(t, create(delay.NewSubscription{Name: "s", Topic: "t", Kind: "both"}), "kind must be")
	require.ErrorIs(t, create(delay.NewSubscription{Name: "s", Topic: "none"}), delay.ErrNoTopic)
	w.Subscribe("t", "s")
	require.ErrorIs(t, create(delay.NewSubscription{Name: "u", Topic: "t"}), delay.ErrManySubscriptions)
	w.Topic("u", "")
	require.ErrorIs(t, create(delay.NewSubscription{Name: "s", Topic: "u"}), delay.ErrSubscriptionExists,
		"of another topic")
	_, err := w.Topics.UpdateSubscription(ctx, "t.default", delay.SubscriptionChange{LeaseMS: new(int64(1000))},
		"ann", "")
	require.ErrorContains(t, err, "lease_ms")
	_, err = w.Topics.UpdateSubscription(ctx, "none", delay.SubscriptionChange{}, "ann", "")
	require.ErrorIs(t, err, delay.ErrNoSubscription)
}

// What a process adds that has not yet read of a subscription reaches it all the same, also when Redis lost everything.
func TestASubscriptionOfAMomentAgoMissesNothing(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		w.Topic("t", "http://a.example")
		flush := func() { require.NoError(t, w.Redis.FlushDB(t.Context()).Err()) }
		for round, lose := range []func(){func() {}, flush} {
			other := w.OtherProcess()
			name := fmt.Sprint("s", round)
			w.Subscribe("t", name)
			lose()
			other.Add("t", topics.Message(name, 0))
			require.Equal(t, []string{name}, topics.IDs(w.Receive(w.Readers(), name, 0)))
		}
		// Whoever made one may have died before it told Redis: another process does, as soon as it has read of it.
		other := w.OtherProcess()
		w.Subscribe("t", "late")
		known, _ := other.Topics.Snapshot().Topic("t")
		version := w.Key(delay.OwnOf("t"), "version")
		require.NoError(t, w.Redis.Set(t.Context(), version, known.Version, 0).Err())
		require.NoError(t, w.Topics.RaiseChanged(t.Context()))
		other.Add("t", topics.Message("m", 0))
		require.Equal(t, []string{"m"}, topics.IDs(w.Receive(w.Readers(), "late", 0)))
		// The database was restored from a copy: what it says counts.
		require.NoError(t, w.Redis.Set(t.Context(), version, int64(1)<<50, 0).Err())
		w.Add("t", topics.Message("n", 0))
		require.Equal(t, []string{"n"}, topics.IDs(w.Receive(w.Readers(), "late", 0)))
	})
}
