package delay_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/adminlog"
	"sluice/delay"
	"sluice/internal/invalid"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/internal/testkit/topics"
)

func TestTopicsOnEveryDatabase(t *testing.T) {
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			w := topics.New(t, testkit.Embedded(t).Addr(), d, topics.Config())
			ctx := t.Context()
			made := w.Topic("coupons", "https://points.example/hook?key=1", func(c *delay.Change) {
				c.Alert, c.Owner, c.Events = new("ops@shop.example"), new("points team"), &[]string{"order.paid",
					"order.confirmed", "order.paid"}
			})
			require.Equal(t, []string{"order.confirmed", "order.paid"}, made.EventList())
			require.True(t, delay.ValidSecret(made.Secret))
			read, err := w.Topics.Get(ctx, "coupons")
			require.NoError(t, err)
			require.Equal(t, made, read)
			_, err = w.Topics.Create(ctx, "coupons", delay.Change{URL: &made.URL}, "ann", "")
			require.ErrorIs(t, err, delay.ErrTopicExists)

			secret := delay.NewSecret()
			after, err := w.Topics.Update(ctx, "coupons", delay.Change{Enabled: new(false), Secret: &secret,
				Owner: new(""), Events: &[]string{}}, "bob", "moved")
			require.NoError(t, err)
			require.False(t, after.On())
			own, _ := after.Default()
			require.Equal(t, []string{secret, made.Secret}, own.Secrets(time.Now()))
			require.Equal(t, []string{secret}, own.Secrets(time.Now().Add(delay.OldSecretFor+time.Minute)))
			require.NoError(t, w.Topics.Refresh(ctx))
			require.Equal(t, []delay.Topic{after}, w.Topics.All(), "zero values are stored too")

			require.NoError(t, w.Topics.Delete(ctx, "coupons", "bob", "gone"))
			_, err = w.Topics.Get(ctx, "coupons")
			require.ErrorIs(t, err, delay.ErrNoTopic)
			require.ErrorIs(t, w.Topics.Delete(ctx, "coupons", "bob", ""), delay.ErrNoTopic)
			_, err = w.Topics.Update(ctx, "coupons", delay.Change{}, "bob", "")
			require.ErrorIs(t, err, delay.ErrNoTopic)

			entries, err := adminlog.New(w.DB, topics.Quiet(), time.Now, 0).List(ctx, adminlog.Filter{}, 0, 9)
			require.NoError(t, err)
			require.Len(t, entries, 3)
			for i, action := range []string{"topic.delete", "topic.update", "topic.create"} {
				require.Equal(t, action, entries[i].Action)
				require.Equal(t, "coupons", entries[i].Target)
				require.NotContains(t, entries[i].BeforeValue+entries[i].AfterValue, delay.SecretPrefix)
			}
			require.Equal(t, "bob", entries[1].Actor)
			require.Equal(t, "moved", entries[1].Reason)
		})
	}
}

func TestATopicWithMessagesStays(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	ctx := t.Context()
	w.Topic("t", "http://a.example/")
	w.Add("t", topics.Message("a", time.Hour))
	require.ErrorIs(t, w.Topics.Delete(ctx, "t", "ann", ""), delay.ErrTopicInUse)
	_, err := w.Topics.Get(ctx, "t")
	require.NoError(t, err)
	require.NoError(t, w.Messages.Cancel(ctx, delay.OwnOf("t"), "a"))
	require.NoError(t, w.Topics.Delete(ctx, "t", "ann", ""))
	// A process that has not yet read the deletion cannot add messages.
	_, err = w.AddOwn(ctx, "t", []delay.New{topics.Message("b", 0)})
	require.ErrorIs(t, err, delay.ErrNoTopic)
	w.Topic("t", "http://a.example/")
	w.Add("t", topics.Message("a", 0)) // the old topic's messages are gone
	require.Equal(t, delay.Pending, w.Show("t", "a").State)
}

func TestWhatATopicMustBe(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t, func(c *delay.Config) { c.MaxTopics = 1 })
	ctx := t.Context()
	good := "https://a.example/x"
	for field, ch := range map[string]delay.Change{
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
		_, err := w.Topics.Create(ctx, "t", ch, "ann", "")
		_, bad := errors.AsType[invalid.Error](err)
		require.True(t, bad, "%s: %v", field, err)
		require.ErrorContains(t, err, field)
	}
	_, err := w.Topics.Create(ctx, "no/name", delay.Change{URL: &good}, "ann", "")
	require.ErrorContains(t, err, "name must be")
	_, err = w.Topics.Create(ctx, "t", delay.Change{URL: &good}, "ann", "line\nbreak")
	require.ErrorContains(t, err, "reason")
	w.Topic("t", good)
	_, err = w.Topics.Create(ctx, "u", delay.Change{URL: &good}, "ann", "")
	require.ErrorIs(t, err, delay.ErrManyTopics)

	w.Topics = delay.NewTopics(delay.TopicsParts{Config: delay.DefaultConfig(), DB: w.DB, Messages: w.Messages,
		Events: []string{"order.paid"}, Log: topics.Quiet(), Now: time.Now})
	_, err = w.Topics.Update(ctx, "t", delay.Change{Events: &[]string{"order.paid"}}, "ann", "")
	require.ErrorContains(t, err, "set delay.order_events: true")
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
	w := topics.Embedded(t)
	w.Topic("t", "http://a.example")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.Redis.AddHook(hangsUp{w.Key(delay.OwnOf("t"), "gone"), cancel})
	require.NoError(t, w.Topics.Delete(ctx, "t", "ann", ""))
	require.Error(t, ctx.Err(), "it hung up")
	_, err := w.Topics.Get(t.Context(), "t")
	require.ErrorIs(t, err, delay.ErrNoTopic)
}
