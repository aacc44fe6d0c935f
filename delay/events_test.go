package delay

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/notify"
)

func TestOrderEventsBecomeMessagesOfTheTopicsThatAskForThem(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	ctx := t.Context()
	r := newReceiver(t, acceptAll)
	w.topic("points", r.URL, func(c *Change) { c.Events = &[]string{"order.paid"} })
	w.topic("logistics", r.URL, func(c *Change) {
		c.Events, c.DelayMS, c.Enabled = &[]string{"order.confirmed", "order.paid"}, new(int64(60_000)), new(false)
	})
	w.topic("other", r.URL)
	channel := NewEvents(w.topics, w.messages)
	at := time.Now()
	batch := []notify.Message{
		{OrderID: "o1", Event: "order.confirmed", SaleID: "s", UserID: "u", CreatedAt: at},
		{OrderID: "o1", Event: "order.paid", SaleID: "s", UserID: "u", CreatedAt: at},
		{OrderID: "o2", Event: "order.failed", SaleID: "s", UserID: "u", CreatedAt: at},
	}
	for range 2 { // the outbox may deliver twice
		require.Equal(t, []notify.Result{notify.Delivered(), notify.Delivered(), notify.Delivered()},
			channel.Deliver(ctx, batch))
	}
	counts, failed := w.messages.Count(ctx, w.topics.Subscriptions())
	require.NoError(t, errors.Join(failed...))
	require.Equal(t, []Counts{{Pending: 2}, {}, {Pending: 1}}, counts, "logistics, other, points")
	m := w.show("logistics", "o1:order.confirmed")
	require.Equal(t, time.Minute, m.DueAt.Sub(m.AddedAt), "the topic's own delay")

	w.startDispatcher()
	w.waitForState("points", "o1:order.paid", Delivered)
	var got struct {
		Type      string
		Timestamp time.Time
		Data      struct {
			OrderID string `json:"order_id"`
			SaleID  string `json:"sale_id"`
			UserID  string `json:"user_id"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.callsWith("points:o1:order.paid")[0].body), &got))
	require.Equal(t, "order.paid", got.Type)
	require.Equal(t, "o1", got.Data.OrderID)
	require.WithinDuration(t, at, got.Timestamp, 0)
}

func TestAFullTopicHoldsItsEventsInTheOutbox(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t, func(c *Config) { c.MaxMessages = 1 })
	w.topic("full", "http://a.example", func(c *Change) { c.Events = &[]string{"order.paid"} })
	w.topic("roomy", "http://a.example", func(c *Change) { c.Events = &[]string{"order.confirmed"} })
	w.add("full", msg("a", time.Hour))
	results := NewEvents(w.topics, w.messages).Deliver(t.Context(), []notify.Message{
		{OrderID: "o1", Event: "order.paid", CreatedAt: time.Now()}, {OrderID: "o2", Event: "order.confirmed",
			CreatedAt: time.Now()}})
	require.NotEqual(t, notify.Delivered(), results[0])
	require.Equal(t, notify.Delivered(), results[1])
	require.Equal(t, Pending, w.show("roomy", "o2:order.confirmed").State)
}
