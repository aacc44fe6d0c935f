package message_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/testkit/topics"
)

func TestOnlyTheHolderOfALeaseSettles(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		short := w.Store(func(p *message.StoreParts) { p.Config.Lease = time.Millisecond })
		w.Add("t", topics.Message("a", 0))
		late, err := short.Claim(ctx, w.Own("t"), 10)
		require.NoError(t, err)
		require.Len(t, late, 1)
		require.Equal(t, 1, w.Show("t", "a").Attempts, "counted before the call")
		require.Equal(t, delay.Firing, w.Show("t", "a").State)
		require.ErrorIs(t, w.Messages.Cancel(ctx, delay.OwnOf("t"), "a"), delay.ErrNotWaiting)

		topic := w.Own("t")
		require.Eventually(t, func() bool {
			found, err := w.Messages.Reclaim(ctx, topic)
			require.NoError(t, err)
			return found.Again == 1
		}, topics.Patience, time.Millisecond)
		require.Equal(t, delay.Retrying, w.Show("t", "a").State)
		require.Equal(t, message.Unreported, w.Show("t", "a").Error)

		settle := func(o message.Outcome) bool {
			stored, err := w.Messages.Settle(ctx, w.Own("t"), []message.Outcome{o})
			require.NoError(t, err)
			return stored[0]
		}
		require.False(t, settle(late[0].Delivered()), "its lease had ended, nobody has it")
		held, err := w.Messages.Claim(ctx, w.Own("t"), 10)
		require.NoError(t, err)
		require.Equal(t, 2, held[0].Attempt)
		require.False(t, settle(late[0].Dead("")), "another has it")
		require.Equal(t, delay.Firing, w.Show("t", "a").State)
		require.True(t, settle(held[0].Delivered()))
		require.False(t, settle(held[0].Delivered()), "a repeat")
		m := w.Show("t", "a")
		require.Equal(t, delay.Delivered, m.State)
		require.Equal(t, 2, m.Attempts)
		counts, failed := w.Messages.Count(ctx, []delay.Subscription{topic})
		require.NoError(t, errors.Join(failed...))
		require.Equal(t, message.Counts{}, counts[0])
	})
}

func TestAMessageThatKillsItsDelivererDiesInTheEnd(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		short := w.Store(func(p *message.StoreParts) { p.Config.Lease = time.Millisecond })
		topic := w.Own("t")
		topic.Retries = 1
		w.Add("t", topics.Message("a", 0))
		for attempt := 1; attempt <= 2; attempt++ {
			claimed, err := short.Claim(ctx, w.Own("t"), 1)
			require.NoError(t, err)
			require.Equal(t, attempt, claimed[0].Attempt)
			require.Eventually(t, func() bool {
				found, err := w.Messages.Reclaim(ctx, topic)
				require.NoError(t, err)
				if attempt == 2 && found.Dead == 1 {
					require.Equal(t, "a", found.DeadID)
				}
				return found.Again == 1 || found.Dead == 1
			}, topics.Patience, time.Millisecond)
		}
		m := w.Show("t", "a")
		require.Equal(t, delay.Dead, m.State)
		require.Equal(t, 2, m.Attempts)
		require.NotEmpty(t, m.Body)
	})
}

// TestConcurrentClaimsShareNothing checks that no message is lost and none is leased twice, however scripts interleave.
func TestConcurrentClaimsShareNothing(t *testing.T) {
	t.Parallel()
	w := topics.Real(t)
	const n = 2000
	w.Fill("t", "m", n, func(int) time.Time { return time.Now().Add(-time.Second) })
	found := make(chan string, n)
	done := make(chan error, 4)
	for range 4 {
		go func() {
			done <- func() error {
				for {
					claimed, err := w.Messages.Claim(context.Background(), w.Own("t"), 37)
					if err != nil || len(claimed) == 0 {
						return err
					}
					for _, d := range claimed {
						found <- d.ID
					}
				}
			}()
		}()
	}
	for range 4 {
		require.NoError(t, <-done)
	}
	close(found)
	seen := map[string]bool{}
	for id := range found {
		require.False(t, seen[id], "%s was claimed twice", id)
		seen[id] = true
	}
	require.Len(t, seen, n)
}

// TestARecordThatWasOverwrittenHarmsNoOther checks that such a message ends like the others of its batch.
func TestARecordThatWasOverwrittenHarmsNoOther(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		w.Add("t", topics.Message("a", 0), topics.Message("b", 0), topics.Message("c", 0))
		claimed, err := w.Messages.Claim(ctx, w.Own("t"), 10)
		require.NoError(t, err)
		require.Len(t, claimed, 3)
		require.NoError(t, w.Redis.HSet(ctx, w.Key(delay.OwnOf("t"), "messages"), "b", "garbage").Err())
		var outcomes []message.Outcome
		for _, d := range claimed {
			out := d.Delivered()
			if d.ID == "c" {
				out = d.Dead("no answer")
			}
			outcomes = append(outcomes, out)
		}
		stored, err := w.Messages.Settle(ctx, w.Own("t"), outcomes)
		require.NoError(t, err)
		require.Equal(t, []bool{true, true, true}, stored)
		require.Equal(t, delay.Delivered, w.Show("t", "a").State)

		require.NoError(t, w.Redis.HSet(ctx, w.Key(delay.OwnOf("t"), "messages"), "c", "garbage").Err())
		dead, err := w.Messages.DeadLetters(ctx, delay.OwnOf("t"), 0, 10)
		require.NoError(t, err)
		require.Len(t, dead, 1, "it is listed all the same")
		require.Contains(t, dead[0].Error, "not readable")
		_, err = w.Messages.Show(ctx, delay.OwnOf("t"), "c")
		require.ErrorContains(t, err, "not readable")
	})
}
