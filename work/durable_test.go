package work_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
)

// TestADurableSubscriberComesBackAfterAnHour plays the durable subscriber of a message broker. What was published while
// it was away is there when it is back, in its order. A subscription that is made later has none of it.
func TestADurableSubscriberComesBackAfterAnHour(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := time.Now()
	publish := func(from, to int) (ids []string) {
		for i := from; i < to; i++ {
			now = now.Add(36 * time.Second)
			w.redis.SetTime(now)
			ids = append(ids, fmt.Sprintf("m%03d", i))
			w.add(ids[len(ids)-1])
		}
		return ids
	}
	read := func(subscription string) (ids []string) {
		got := w.receive(subscription, `{"max":1000}`)
		for _, m := range got {
			ids = append(ids, m.ID)
		}
		if len(got) > 0 {
			w.post(http.StatusOK, "/subscriptions/"+subscription+"/ack", leases(t, "", got...))
		}
		return ids
	}
	require.Equal(t, publish(0, 1), read("stock"))
	away := publish(1, 101) // an hour
	_, err := w.topics.CreateSubscription(t.Context(), delay.NewSubscription{Name: "late", Topic: "points",
		Kind: delay.Pull}, delay.SubscriptionChange{}, "ann", "")
	require.NoError(t, err)
	last := publish(101, 102)
	require.Equal(t, append(away, last...), read("stock"))
	require.Empty(t, read("stock"))
	require.Equal(t, last, read("late"))
}
