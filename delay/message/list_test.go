package message_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/testkit/topics"
)

func TestDeadLettersAreListedRetriedAndDropped(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		w.Add("t", topics.Message("a", 0), topics.Message("b", 0), topics.Message("c", 0))
		claimed, err := w.Messages.Claim(ctx, w.Own("t"), 10)
		require.NoError(t, err)
		for i, d := range claimed {
			out := d.Dead("no\tanswer")
			if i == 2 {
				out = d.Retry(time.Hour, "no\tanswer")
			}
			_, err := w.Messages.Settle(ctx, w.Own("t"), []message.Outcome{out})
			require.NoError(t, err)
		}
		counts, failed := w.Messages.Count(ctx, []delay.Subscription{delay.OwnOf("t")})
		require.NoError(t, errors.Join(failed...))
		require.Equal(t, message.Counts{Retrying: 1, Dead: 2}, counts[0])
		dead, err := w.Messages.DeadLetters(ctx, delay.OwnOf("t"), 0, 10)
		require.NoError(t, err)
		require.Len(t, dead, 2)
		require.Equal(t, "no answer", dead[0].Error)
		page, err := w.Messages.DeadLetters(ctx, delay.OwnOf("t"), 1, 1)
		require.NoError(t, err)
		require.Equal(t, dead[1:], page)

		require.NoError(t, w.Messages.Retry(ctx, delay.OwnOf("t"), "a"))
		require.Equal(t, delay.Pending, w.Show("t", "a").State)
		require.ErrorIs(t, w.Messages.Retry(ctx, delay.OwnOf("t"), "a"), delay.ErrNotDead)
		require.NoError(t, w.Messages.Drop(ctx, delay.OwnOf("t"), "b"))
		require.Equal(t, delay.Dropped, w.Show("t", "b").State)
		require.ErrorIs(t, w.Messages.Drop(ctx, delay.OwnOf("t"), "c"), delay.ErrNotDead)
		require.NoError(t, w.Messages.Cancel(ctx, delay.OwnOf("t"), "c"), "between two attempts it waits")
		claimed, err = w.Messages.Claim(ctx, w.Own("t"), 10)
		require.NoError(t, err)
		require.Len(t, claimed, 1)
		require.Equal(t, 1, claimed[0].Attempt, "its attempts were forgotten")
	})
}

func TestMessagesAreListedByState(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		w.Topic("t", "")
		sub := w.Subscribe("t", "s", func(c *delay.SubscriptionChange) { c.Retries = new(0) })
		readers := w.Readers()
		w.Add("t", topics.Message("done-1", 0), topics.Message("done-2", 0), topics.Message("dead-1", 0),
			topics.Message("dead-2", 0), topics.Message("run", 0))
		for _, l := range w.Receive(readers, "s", 0) {
			kind, _, _ := strings.Cut(l.ID, "-")
			var err error
			switch kind {
			case "done":
				_, err = readers.Ack(ctx, "s", []string{l.Lease})
			case "dead":
				_, err = readers.Nack(ctx, "s", []string{l.Lease}, nil)
			}
			require.NoError(t, err)
		}
		require.NoError(t, w.Messages.Drop(ctx, sub, "dead-1"))
		w.Add("t", topics.Message("later", time.Hour), topics.Message("soon", time.Minute),
			topics.Message("off", time.Hour))
		require.NoError(t, w.Messages.Cancel(ctx, sub, "off"))
		for state, want := range map[string][]string{message.ListWaiting: {"soon", "later"},
			message.ListRunning: {"run"}, message.ListFailed: {"dead-2", "dead-1"}, message.ListCancelled: {"off"}} {
			var found []string
			for skip := int64(0); ; {
				page, err := w.Messages.List(ctx, sub, message.Listing{State: state, Skip: skip, Limit: 1})
				require.NoError(t, err)
				for _, m := range page.Messages {
					found = append(found, m.ID)
				}
				if skip = page.Next; skip == 0 {
					break
				}
			}
			require.Equal(t, want, found, state)
		}
		page, err := w.Messages.List(ctx, sub, message.Listing{State: message.ListComplete, Limit: 10})
		require.NoError(t, err)
		require.Len(t, page.Messages, 2)
		require.Zero(t, page.Next)
		_, err = w.Messages.List(ctx, sub, message.Listing{State: "eaten"})
		require.ErrorContains(t, err, "state must be one of")
	})
}
