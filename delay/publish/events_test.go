package publish_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/publish"
	"sluice/internal/invalid"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/topics"
	"sluice/notify"
)

func TestOrderEventsBecomeMessagesOfTheTopicsThatAskForThem(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	ctx := t.Context()
	r := providers.NewReceiver(t, providers.AcceptAll)
	w.Topic("points", r.URL, func(c *delay.Change) { c.Events = &[]string{"order.paid"} })
	w.Topic("logistics", r.URL, func(c *delay.Change) {
		c.Events, c.DelayMS, c.Enabled = &[]string{"order.confirmed", "order.paid"}, new(int64(60_000)), new(false)
	})
	w.Topic("other", r.URL)
	channel := w.Events()
	at := time.UnixMilli(1_700_000_000_120)
	batch := []notify.Message{
		{OrderID: "o1", Event: "order.confirmed", SaleID: "s", UserID: "u", CreatedAt: at},
		{OrderID: "o1", Event: "order.paid", SaleID: "s", UserID: "u", CreatedAt: at},
		{OrderID: "o2", Event: "order.failed", SaleID: "s", UserID: "u", CreatedAt: at},
	}
	for range 2 { // the outbox may deliver twice
		require.Equal(t, []notify.Result{notify.Delivered(), notify.Delivered(), notify.Delivered()},
			channel.Deliver(ctx, batch))
	}
	counts, failed := w.Messages.Count(ctx, w.Topics.Subscriptions())
	require.NoError(t, errors.Join(failed...))
	require.Equal(t, []message.Counts{{Pending: 2}, {}, {Pending: 1}}, counts, "logistics, other, points")
	m := w.Show("logistics", "o1:order.confirmed")
	require.Equal(t, time.Minute, m.DueAt.Sub(m.AddedAt), "the topic's own delay")

	w.Dispatch()
	w.WaitForState("points", "o1:order.paid", delay.Delivered)
	require.JSONEq(t, `{"type": "order.paid", "version": 1, "timestamp": "2023-11-14T22:13:20.120Z", "data": {
		"order_id": "o1", "sale_id": "s", "user_id": "u", "status": "paid", "quantity": 2, "price_cents": 9900,
		"currency": "CNY", "paid_at": "2023-11-14T22:13:20.120Z"}}`, r.CallsWith("points:o1:order.paid")[0].Body)
}

// Until the database answers, events wait in the outbox and lose no attempt.
func TestEventsWaitForTheLedger(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	w.Topic("points", "http://a.example", func(c *delay.Change) { c.Events = &[]string{"order.paid"} })
	away := w.Events(func(p *publish.EventsParts) {
		p.Ledger = func(context.Context, []string) (map[string]notify.Facts, error) { return nil, errors.New("away") }
	})
	results := away.Deliver(t.Context(), []notify.Message{{OrderID: "o1", Event: "order.paid", CreatedAt: time.Now()}})
	_, held := results[0].HeldFor()
	require.True(t, held, results[0].Failure())
	require.Equal(t, []notify.Result{notify.Delivered()}, away.Deliver(t.Context(),
		[]notify.Message{{OrderID: "o1", Event: "order.failed"}}), "which nobody asks for")
}

// An event that a process of the version before has added is there, and not given up.
func TestAnEventInItsOldFormIsKnown(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		w.Topic("t", "http://a.example", func(c *delay.Change) { c.Events = &[]string{"order.paid"} })
		m := notify.Message{OrderID: "o1", Event: "order.paid", SaleID: "s", UserID: "u",
			CreatedAt: time.UnixMilli(1_700_000_000_120)}
		old := []byte(`{"type":"order.paid","timestamp":"2023-11-14T22:13:20.12Z",` +
			`"data":{"order_id":"o1","sale_id":"s","user_id":"u"}}`)
		_, err := w.AddOwn(ctx, "t", []delay.New{{ID: m.ID(), Body: old}})
		require.NoError(t, err)
		other := m
		other.OrderID = "o2"
		require.Equal(t, []notify.Result{notify.Delivered(), notify.Delivered()},
			w.Events().Deliver(ctx, []notify.Message{m, other}))
		require.Equal(t, string(old), string(w.Show("t", m.ID()).Body))
		require.Contains(t, string(w.Show("t", other.ID()).Body), `"version":1`)
	})
}

func TestAFullTopicHoldsItsEventsInTheOutbox(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t, func(c *delay.Config) { c.MaxMessages = 1 })
	w.Topic("full", "http://a.example", func(c *delay.Change) { c.Events = &[]string{"order.paid"} })
	w.Topic("roomy", "http://a.example", func(c *delay.Change) { c.Events = &[]string{"order.confirmed"} })
	w.Add("full", topics.Message("a", time.Hour))
	results := w.Events().Deliver(t.Context(), []notify.Message{
		{OrderID: "o1", Event: "order.paid", CreatedAt: time.Now()}, {OrderID: "o2", Event: "order.confirmed",
			CreatedAt: time.Now()}})
	require.NotEqual(t, notify.Delivered(), results[0])
	require.Equal(t, notify.Delivered(), results[1])
	require.Equal(t, delay.Pending, w.Show("roomy", "o2:order.confirmed").State)
}

// TestOrderEventsPassABrokenTopic checks that order events reach healthy topics when another is broken.
func TestOrderEventsPassABrokenTopic(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	for _, name := range []string{"a-broken", "well", "z-broken"} {
		w.Topic(name, "http://a.example", func(c *delay.Change) { c.Events = &[]string{"order.paid"} })
	}
	w.Overwrite("a-broken", "messages")
	w.Overwrite("z-broken", "due")
	at := time.Now()
	results := w.Events().Deliver(t.Context(), []notify.Message{
		{OrderID: "o1", Event: "order.paid", CreatedAt: at}, {OrderID: "o2", Event: "order.confirmed", CreatedAt: at}})
	require.Contains(t, results[0].Failure(), "broken")
	require.Equal(t, notify.Delivered(), results[1])
	require.Equal(t, delay.Pending, w.Show("well", "o1:order.paid").State)
}

// Nobody can take the id of an order's event by hand, and one that is taken holds up no other event (case I12).
func TestOneConflictHoldsUpNoOtherEvent(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		w.Topic("t", "http://a.example", func(c *delay.Change) { c.Events = &[]string{"order.paid"} })
		for id, reserved := range map[string]bool{"o1:order.paid": true, "o1:order.refund_required": true,
			"o1:order.2": false, "order.paid": false} {
			_, err := w.Publisher().Add(ctx, "t", []delay.New{topics.Message(id, time.Hour)})
			_, refused := errors.AsType[invalid.Error](err)
			require.Equal(t, reserved, refused, "%s: %v", id, err)
		}
		_, err := w.AddOwn(ctx, "t", []delay.New{topics.Message("o2:order.paid", 0)}) // by an older build
		require.NoError(t, err)
		var events []notify.Message
		for _, id := range []string{"o1", "o2", "o3"} {
			events = append(events, notify.Message{OrderID: id, Event: "order.paid", SaleID: "s",
				CreatedAt: time.Now()})
		}
		results := w.Events().Deliver(ctx, events)
		require.Equal(t, notify.Delivered(), results[0])
		require.True(t, results[1].IsPermanent(), results[1].Failure())
		require.Equal(t, notify.Delivered(), results[2])
		require.Equal(t, delay.Pending, w.Show("t", "o3:order.paid").State)
	})
}
