package delay

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/adminlog"
	"sluice/internal/invalid"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
)

func TestTopicsOnEveryDatabase(t *testing.T) {
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testkit.Embedded(t).Addr(), d, testConfig())
			ctx := t.Context()
			made := w.topic("coupons", "https://points.example/hook?key=1", func(c *Change) {
				c.Alert, c.Owner, c.Events = new("ops@shop.example"), new("points team"), &[]string{"order.paid",
					"order.confirmed", "order.paid"}
			})
			require.Equal(t, []string{"order.confirmed", "order.paid"}, made.EventList())
			require.True(t, validSecret(made.Secret))
			read, err := w.topics.Get(ctx, "coupons")
			require.NoError(t, err)
			require.Equal(t, made, read)
			_, err = w.topics.Create(ctx, "coupons", Change{URL: &made.URL}, "ann", "")
			require.ErrorIs(t, err, ErrTopicExists)

			secret := newSecret()
			after, err := w.topics.Update(ctx, "coupons", Change{Enabled: new(false), Secret: &secret, Owner: new(""),
				Events: &[]string{}}, "bob", "moved")
			require.NoError(t, err)
			require.False(t, after.On())
			own, _ := after.Default()
			require.Equal(t, []string{secret, made.Secret}, own.secrets(time.Now()))
			require.Equal(t, []string{secret}, own.secrets(time.Now().Add(oldSecretFor+time.Minute)))
			require.NoError(t, w.topics.Refresh(ctx))
			require.Equal(t, []Topic{after}, w.topics.All(), "zero values are stored too")

			require.NoError(t, w.topics.Delete(ctx, "coupons", "bob", "gone"))
			_, err = w.topics.Get(ctx, "coupons")
			require.ErrorIs(t, err, ErrNoTopic)
			require.ErrorIs(t, w.topics.Delete(ctx, "coupons", "bob", ""), ErrNoTopic)
			_, err = w.topics.Update(ctx, "coupons", Change{}, "bob", "")
			require.ErrorIs(t, err, ErrNoTopic)

			entries, err := adminlog.New(w.db, quiet(), time.Now, 0).List(ctx, adminlog.Filter{}, 0, 9)
			require.NoError(t, err)
			require.Len(t, entries, 3)
			for i, action := range []string{"topic.delete", "topic.update", "topic.create"} {
				require.Equal(t, action, entries[i].Action)
				require.Equal(t, "coupons", entries[i].Target)
				require.NotContains(t, entries[i].BeforeValue+entries[i].AfterValue, secretPrefix)
			}
			require.Equal(t, "bob", entries[1].Actor)
			require.Equal(t, "moved", entries[1].Reason)
		})
	}
}

func TestATopicWithMessagesStays(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	ctx := t.Context()
	w.topic("t", "http://a.example/")
	w.add("t", msg("a", time.Hour))
	require.ErrorIs(t, w.topics.Delete(ctx, "t", "ann", ""), ErrTopicInUse)
	_, err := w.topics.Get(ctx, "t")
	require.NoError(t, err)
	require.NoError(t, w.messages.Cancel(ctx, ownOf("t"), "a"))
	require.NoError(t, w.topics.Delete(ctx, "t", "ann", ""))
	// A process that has not yet read the deletion cannot add messages.
	_, err = w.messages.Add(ctx, "t", []New{msg("b", 0)})
	require.ErrorIs(t, err, ErrNoTopic)
	w.topic("t", "http://a.example/")
	w.add("t", msg("a", 0)) // the old topic's messages are gone
	require.Equal(t, Pending, w.show("t", "a").State)
}

func TestWhatATopicMustBe(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t, func(c *Config) { c.MaxTopics = 1 })
	ctx := t.Context()
	good := "https://a.example/x"
	for field, ch := range map[string]Change{
		"url":           {},
		"url must":      {URL: new("ftp://a.example")},
		"url must be":   {URL: new("http://user:pass@a.example")},
		"method":        {URL: &good, Method: new("DELETE")},
		"delay_ms":      {URL: &good, DelayMS: new(int64(-1))},
		"timeout_ms":    {URL: &good, TimeoutMS: new(int64(31_000))},
		"retries":       {URL: &good, Retries: new(101)},
		"retry_unit_ms": {URL: &good, RetryUnitMS: new(int64(1))},
		"alert":         {URL: &good, Alert: new("nobody")},
		"owner":         {URL: &good, Owner: new(strings.Repeat("x", 129))},
		"secret":        {URL: &good, Secret: new("whsec_c2hvcnQ=")},
		"events":        {URL: &good, Events: &[]string{"order.eaten"}},
	} {
		_, err := w.topics.Create(ctx, "t", ch, "ann", "")
		_, bad := errors.AsType[invalid.Error](err)
		require.True(t, bad, "%s: %v", field, err)
		require.ErrorContains(t, err, field)
	}
	_, err := w.topics.Create(ctx, "no/name", Change{URL: &good}, "ann", "")
	require.ErrorContains(t, err, "name must be")
	_, err = w.topics.Create(ctx, "t", Change{URL: &good}, "ann", "line\nbreak")
	require.ErrorContains(t, err, "reason")
	w.topic("t", good)
	_, err = w.topics.Create(ctx, "u", Change{URL: &good}, "ann", "")
	require.ErrorIs(t, err, ErrManyTopics)

	w.topics = NewTopics(TopicsParts{Config: DefaultConfig(), DB: w.db, Messages: w.messages,
		Events: []string{"order.paid"}, Log: quiet(), Now: time.Now})
	_, err = w.topics.Update(ctx, "t", Change{Events: &[]string{"order.paid"}}, "ann", "")
	require.ErrorContains(t, err, "set delay.order_events: true")
}
