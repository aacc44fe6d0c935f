package topics

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/pull"
)

// Topic creates a topic that calls url and retries after 10, 30, 50 … ms.
func (w *World) Topic(name, url string, edits ...func(*delay.Change)) delay.Topic {
	w.t.Helper()
	ch := delay.Change{URL: &url, RetryUnitMS: new(int64(10))}
	for _, edit := range edits {
		edit(&ch)
	}
	t, err := w.Topics.Create(w.t.Context(), name, ch, "ann", "")
	require.NoError(w.t, err)
	return t
}

// Subscribe adds a subscription to a topic: one that is pulled from, unless an edit gives it a URL.
func (w *World) Subscribe(topic, name string, edits ...func(*delay.SubscriptionChange)) delay.Subscription {
	w.t.Helper()
	ch := delay.SubscriptionChange{RetryUnitMS: new(int64(10))}
	for _, edit := range edits {
		edit(&ch)
	}
	sub, err := w.Topics.CreateSubscription(w.t.Context(), delay.NewSubscription{Name: name, Topic: topic}, ch, "ann",
		"")
	require.NoError(w.t, err)
	return sub
}

// Message returns a message to add.
func Message(id string, wait time.Duration) delay.New {
	return delay.New{ID: id, Delay: wait, Body: fmt.Appendf(nil, `{"n":%q}`, id)}
}

// Add adds messages to all subscriptions of a topic, or where no topic was made, to the topic's own.
func (w *World) Add(topic string, messages ...delay.New) []time.Time {
	w.t.Helper()
	due, err := w.adder(topic)(w.t.Context(), topic, messages)
	require.NoError(w.t, err)
	return due
}

func (w *World) adder(topic string) func(context.Context, string, []delay.New) ([]time.Time, error) {
	if len(w.Topics.Of(topic)) > 0 {
		return w.Publisher().Add
	}
	return w.AddOwn
}

// AddOwn adds messages to a topic's own subscription, whether the topic was made or not.
func (w *World) AddOwn(ctx context.Context, topic string, messages []delay.New) ([]time.Time, error) {
	return w.AddTo(ctx, w.Messages, topic, messages)
}

// AddTo adds messages to a store as AddOwn does.
func (w *World) AddTo(ctx context.Context, s *message.Store, topic string, messages []delay.New) ([]time.Time, error) {
	if err := s.Check(messages); err != nil {
		return nil, err
	}
	own := w.Own(topic)
	return s.Add(ctx, message.Addition{Topic: topic, Version: own.Version,
		Subscriptions: []delay.Subscription{own}, Messages: messages})
}

// Own returns a topic's own subscription with the version that Redis knows, whether the topic was made or not.
func (w *World) Own(topic string) delay.Subscription {
	w.t.Helper()
	own := delay.OwnOf(topic)
	own.Kind, own.Retries, own.RetryUnitMS = delay.Push, 10, 10
	key := w.Key(own, "version")
	require.NoError(w.t, w.Redis.SetNX(w.t.Context(), key, 1, 0).Err())
	version, err := w.Redis.Get(w.t.Context(), key).Int64()
	require.NoError(w.t, err)
	own.Version = version
	return own
}

// Bulk returns n messages with the same body, numbered from a number on.
func Bulk(begin string, from, n int, at func(i int) time.Time) []delay.New {
	const body = `{"type":"coupon.expired","data":{"user":"u-123456","coupon":"c-987654321","cents":500,` +
		`"note":"thirty days are over"}}`
	list := make([]delay.New, n)
	for i := range list {
		list[i] = delay.New{ID: fmt.Sprintf("%s-%d", begin, from+i), At: at(from + i), Body: []byte(body)}
	}
	return list
}

// Fill adds n messages in calls of 1,000 from four goroutines.
func (w *World) Fill(topic, begin string, n int, at func(i int) time.Time) {
	w.t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				from := int(next.Add(1000)) - 1000
				if from >= n {
					return
				}
				some := Bulk(begin, from, min(1000, n-from), at)
				if _, err := w.adder(topic)(w.t.Context(), topic, some); err != nil {
					w.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// Receive returns the messages that a subscription has due, in the order of their ids.
func (w *World) Receive(r *pull.Readers, name string, wait time.Duration) []pull.Leased {
	w.t.Helper()
	got, err := r.Receive(w.t.Context(), name, 100, wait)
	require.NoError(w.t, err)
	slices.SortFunc(got, func(a, b pull.Leased) int { return strings.Compare(a.ID, b.ID) })
	return got
}

// IDs returns the ids of messages.
func IDs(list []pull.Leased) []string {
	var found []string
	for _, l := range list {
		found = append(found, l.ID)
	}
	return found
}

// EndLease lets the lease of a message end.
func (w *World) EndLease(sub delay.Subscription, id string) {
	w.t.Helper()
	firing := w.Key(sub, "firing")
	require.NoError(w.t, w.Redis.ZAdd(w.t.Context(), firing, redis.Z{Score: 1, Member: id}).Err())
	found, err := w.Messages.Reclaim(w.t.Context(), sub)
	require.NoError(w.t, err)
	require.EqualValues(w.t, 1, found.Again+found.Dead)
}

// Show returns a message of a topic's own subscription.
func (w *World) Show(topic, id string) delay.Message {
	w.t.Helper()
	m, err := w.Messages.Show(w.t.Context(), delay.OwnOf(topic), id)
	require.NoError(w.t, err)
	return m
}

// WaitForState waits until a message of a topic's own subscription is in a state.
func (w *World) WaitForState(topic, id, state string) delay.Message {
	w.t.Helper()
	var m delay.Message
	require.Eventually(w.t, func() bool {
		m = w.Show(topic, id)
		return m.State == state
	}, Patience, 2*time.Millisecond, "message %s never became %s, it is %+v", id, state, &m)
	return m
}

// Value returns the value of a metric, or 0 if none has all of the values of labels.
func (w *World) Value(from prometheus.Gatherer, name string, labels ...string) float64 {
	w.t.Helper()
	families, err := from.Gather()
	require.NoError(w.t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var has []string
			for _, pair := range m.GetLabel() {
				has = append(has, pair.GetValue())
			}
			if !slices.ContainsFunc(labels, func(want string) bool { return !slices.Contains(has, want) }) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
