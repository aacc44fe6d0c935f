package message_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/cloudevent"
	"sluice/internal/testkit/topics"
)

// claimOnly claims the one message that is due.
func claimOnly(t *testing.T, w *topics.World) message.Claimed {
	t.Helper()
	found, err := w.Messages.Claim(t.Context(), w.Own("t"), 10)
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

// A message keeps the event and the sale that it was added with until it is finished.
func TestAMessageKeepsWhatItIsAbout(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx, about := t.Context(), w.Key(delay.OwnOf("t"), "about")
		w.Add("t", delay.New{ID: "a", Body: []byte("1"), Event: "points.added", Sale: "phone"})
		m := w.Show("t", "a")
		require.Equal(t, []string{"points.added", "phone"}, []string{m.Event, m.Sale})
		claimed := claimOnly(t, w)
		require.Equal(t, cloudevent.Attributes{SpecVersion: "1.0", ID: "a", Source: "/sluice/topics/t",
			Type: "points.added", Time: m.AddedAt.Format("2006-01-02T15:04:05.000Z"),
			DataContentType: "application/json", Sale: "phone"}, claimed.About)
		_, err := w.Messages.Settle(ctx, w.Own("t"), []message.Outcome{claimed.Retry(0, "again")})
		require.NoError(t, err)
		claimed = claimOnly(t, w)
		require.Equal(t, "points.added", claimed.About.Type, "at every attempt")
		_, err = w.Messages.Settle(ctx, w.Own("t"), []message.Outcome{claimed.Delivered()})
		require.NoError(t, err)
		require.Empty(t, w.Show("t", "a").Event)

		w.Add("t", delay.New{ID: "b", Delay: time.Hour, Body: []byte("1"), Sale: "phone"})
		require.NoError(t, w.Messages.Cancel(ctx, delay.OwnOf("t"), "b"))
		require.Zero(t, w.Redis.Exists(ctx, about).Val(), "what is finished leaves nothing")
	})
}

// A message of a version that kept neither event nor sale is delivered, and one that reuses an id that such a version
// has forgotten says nothing of its predecessor.
func TestRecordsOfTheVersionBefore(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx, about := t.Context(), w.Key(delay.OwnOf("t"), "about")
		body := `{"type":"order.paid","timestamp":"2023-11-14T22:13:20.12Z","data":{"order_id":"o1"}}`
		w.Add("t", delay.New{ID: "o1:order.paid", Body: []byte(body), Event: "order.paid", Sale: "phone"})
		require.NoError(t, w.Redis.Del(ctx, about).Err()) // so it would be without
		require.Equal(t, cloudevent.Attributes{SpecVersion: "1.0", ID: "o1:order.paid", Source: "/sluice/orders",
			Type: "order.paid", Subject: "o1", Time: "2023-11-14T22:13:20.120Z", DataContentType: "application/json"},
			claimOnly(t, w).About)

		require.NoError(t, w.Redis.HSet(ctx, about, "plain", "order.failed\tphone", "other",
			"order.failed\tphone").Err())
		w.Add("t", topics.Message("plain", time.Hour))
		require.Empty(t, w.Show("t", "plain").Event)
		_, err := w.Messages.Erase(ctx, delay.OwnOf("t"), true)
		require.NoError(t, err)
		require.Zero(t, w.Redis.Exists(ctx, about).Val())
	})
}
