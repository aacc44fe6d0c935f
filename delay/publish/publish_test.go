package publish_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/topics"
)

func TestEachOfTenSubscriptionsGetsEveryMessage(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		r := providers.NewReceiver(t, providers.AcceptAll)
		w.Topic("t", r.URL)
		for i := range 9 {
			w.Subscribe("t", fmt.Sprint("s", i))
		}
		first := w.Add("t", topics.Message("a", 0), topics.Message("b", time.Hour))
		require.Equal(t, first, w.Add("t", topics.Message("a", 0), topics.Message("b", time.Hour)), "again")
		readers := w.Readers()
		for i := range 9 {
			name := fmt.Sprint("s", i)
			got := w.Receive(readers, name, 0)
			require.Equal(t, []string{"a"}, topics.IDs(got), name)
			require.JSONEq(t, `{"n":"a"}`, string(got[0].Body))
			stood, err := readers.Ack(t.Context(), name, []string{got[0].Lease})
			require.NoError(t, err)
			require.Equal(t, []bool{true}, stood)
		}
		w.Dispatch()
		w.WaitForState("t", "a", delay.Delivered)
		require.Len(t, r.CallsWith("t:a"), 1)
		copies, err := w.Publisher().Show(t.Context(), "t", "b")
		require.NoError(t, err)
		require.Len(t, copies, 10)
		require.Equal(t, "t.default", copies[0].Subscription)
		require.NoError(t, w.Publisher().Cancel(t.Context(), "t", "b"))
		copies, err = w.Publisher().Show(t.Context(), "t", "b")
		require.NoError(t, err)
		for _, m := range copies {
			require.Equal(t, delay.Cancelled, m.State, m.Subscription)
		}
		require.ErrorIs(t, w.Publisher().Cancel(t.Context(), "t", "a"), delay.ErrNotWaiting)
		require.ErrorIs(t, w.Publisher().Cancel(t.Context(), "t", "never"), delay.ErrNoMessage)
	})
}

func TestASubscriptionTakesWhatItsFilterTakes(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		w.Topic("t", "")
		w.Subscribe("t", "all")
		w.Subscribe("t", "paid", func(c *delay.SubscriptionChange) { c.Events = &[]string{"order.paid"} })
		w.Subscribe("t", "flash", func(c *delay.SubscriptionChange) { c.Sales = &[]string{"flash-*", "phone"} })
		w.Subscribe("t", "both", func(c *delay.SubscriptionChange) {
			c.Events, c.Sales = &[]string{"order.paid"}, &[]string{"flash-?"}
		})
		message := func(id, event, sale string) delay.New {
			m := topics.Message(id, 0)
			m.Event, m.Sale = event, sale
			return m
		}
		w.Add("t", message("1", "order.paid", "flash-1"), message("2", "order.failed", "flash-22"),
			message("3", "order.paid", "phone"), message("4", "", ""))
		readers := w.Readers()
		for name, want := range map[string][]string{"all": {"1", "2", "3", "4"}, "paid": {"1", "3"},
			"flash": {"1", "2", "3"}, "both": {"1"}} {
			require.Equal(t, want, topics.IDs(w.Receive(readers, name, 0)), name)
		}
	})
}
