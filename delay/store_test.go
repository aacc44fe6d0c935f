package delay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/invalid"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
)

// onBothServers runs a test on the embedded Redis and on a real one. The scripts must do the same on both.
func onBothServers(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, embeddedWorld(t))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, testkit.Redis(t).Addr(), tables.New(t, "sqlite"), testConfig()))
	})
}

func TestAddingAgainGivesTheFirstAnswer(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		before := time.Now().Add(-time.Second)
		at := time.Now().Add(48 * time.Hour).Truncate(time.Millisecond).UTC()
		first := w.add("t", msg("a", time.Minute), New{ID: "b", At: at, Body: []byte(`[1]`)})
		require.WithinRange(t, first[0], before.Add(time.Minute), time.Now().Add(time.Minute+time.Second))
		require.Equal(t, at, first[1])

		again := w.add("t", msg("a", time.Hour), New{ID: "b", At: first[1], Body: []byte(`[1]`)}, msg("c", 0))
		require.Equal(t, first, again[:2])

		for name, other := range map[string]New{
			"body": {ID: "a", Delay: time.Minute, Body: []byte(`{}`)},
			"time": {ID: "b", At: first[1].Add(time.Second), Body: []byte(`[1]`)},
		} {
			_, err := w.messages.Add(ctx, "t", []New{msg("d", 0), other})
			require.ErrorIs(t, err, ErrConflict, name)
			require.ErrorContains(t, err, "message "+other.ID)
		}
		_, err := w.messages.Show(ctx, ownOf("t"), "d")
		require.ErrorIs(t, err, ErrNoMessage, "nothing of a refused call is taken")
		_, err = w.messages.Show(ctx, ownOf("other"), "a")
		require.ErrorIs(t, err, ErrNoMessage, "ids belong to their topic")
	})
}

func TestAFinishedMessageIsStillKnown(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		first := w.add("t", msg("a", time.Hour))
		require.NoError(t, w.messages.Cancel(ctx, ownOf("t"), "a"))
		require.NoError(t, w.messages.Cancel(ctx, ownOf("t"), "a"), "cancelling again")
		m := w.show("t", "a")
		require.Equal(t, Cancelled, m.State)
		require.Nil(t, m.Body)
		require.Equal(t, first[0], m.FirstDue)
		require.False(t, m.EndedAt.IsZero())
		require.Equal(t, first, w.add("t", msg("a", time.Hour)), "the repeat of a call whose answer was lost")
		require.Equal(t, Cancelled, w.show("t", "a").State, "and it stays cancelled")
		_, err := w.messages.Add(ctx, "t", []New{{ID: "a", Delay: time.Hour, Body: []byte(`1`)}})
		require.ErrorIs(t, err, ErrConflict)
		require.ErrorIs(t, w.messages.Cancel(ctx, ownOf("t"), "never"), ErrNoMessage)
	})
}

func TestBoundsOfATopic(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t, func(c *Config) { c.MaxMessages, c.Keep = 3, 2 })
	ctx := t.Context()
	w.add("t", msg("a", time.Hour), msg("b", time.Hour))
	_, err := w.messages.Add(ctx, "t", []New{msg("c", time.Hour), msg("d", time.Hour)})
	require.ErrorIs(t, err, ErrFull)
	w.add("t", msg("c", time.Hour))
	w.add("t", msg("c", time.Hour)) // known: takes no place
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, w.messages.Cancel(ctx, ownOf("t"), id))
	}
	_, err = w.messages.Show(ctx, ownOf("t"), "a")
	require.ErrorIs(t, err, ErrNoMessage, "the oldest finished record is forgotten")
	require.Equal(t, Cancelled, w.show("t", "b").State)
	w.add("t", msg("d", 0), msg("e", 0), msg("f", 0)) // finished ones take no place
}

func TestWhatAMessageMustBe(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	large := New{ID: "a", Body: []byte(`"` + strings.Repeat("x", MaxBody) + `"`)}
	many := make([]New, maxBatch+1)
	for i := range many {
		many[i] = msg(fmt.Sprint("m", i), 0)
	}
	for field, list := range map[string][]New{
		"messages":             {},
		"messages must be":     many,
		"messages[0].id":       {msg("", 0)},
		"messages[1].id":       {msg("a", 0), msg("a", 0)},
		"messages[0].body":     {{ID: "a"}},
		"messages[0].body mus": {{ID: "a", Body: []byte("no json")}},
		"messages[0].body mu":  {large},
		"messages[0].delay_ms": {msg("a", -1)},
		"delay.max_delay":      {msg("a", w.cfg.MaxDelay+1)},
		"messages[0].at":       {{ID: "a", Delay: 1, At: time.Now(), Body: []byte("1")}},
		"away than":            {{ID: "a", At: time.Now().Add(w.cfg.MaxDelay + time.Minute), Body: []byte("1")}},
	} {
		_, err := w.messages.Add(t.Context(), "t", list)
		_, invalid := errors.AsType[invalid.Error](err)
		require.True(t, invalid, "%s: %v", field, err)
		require.ErrorContains(t, err, field)
	}
	w.messages.durable = func() error { return errors.New("too weak") }
	_, err := w.messages.Add(t.Context(), "t", []New{msg("a", 0)})
	require.EqualError(t, err, "too weak", "what Redis would not keep is not taken")
}

func TestOnlyTheHolderOfALeaseSettles(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.messages.cfg.Lease = time.Millisecond
		w.add("t", msg("a", 0))
		late, err := w.messages.claim(ctx, w.own("t"), 10)
		require.NoError(t, err)
		require.Len(t, late, 1)
		require.Equal(t, 1, w.show("t", "a").Attempts, "counted before the call")
		require.Equal(t, Firing, w.show("t", "a").State)
		require.ErrorIs(t, w.messages.Cancel(ctx, ownOf("t"), "a"), ErrNotWaiting)

		topic := w.own("t")
		require.Eventually(t, func() bool {
			found, err := w.messages.reclaim(ctx, topic)
			require.NoError(t, err)
			return found.again == 1
		}, patience, time.Millisecond)
		require.Equal(t, Retrying, w.show("t", "a").State)
		require.Equal(t, unreported, w.show("t", "a").Error)

		settle := func(d delivery, op byte) bool {
			stored, err := w.messages.settle(ctx, w.own("t"), []outcome{{ID: "a", token: d.token, op: op}})
			require.NoError(t, err)
			return stored[0]
		}
		require.False(t, settle(late[0], opDelivered), "its lease had ended, nobody has it")
		w.messages.cfg.Lease = time.Hour
		held, err := w.messages.claim(ctx, w.own("t"), 10)
		require.NoError(t, err)
		require.Equal(t, 2, held[0].Attempt)
		require.False(t, settle(late[0], opDead), "another has it")
		require.Equal(t, Firing, w.show("t", "a").State)
		require.True(t, settle(held[0], opDelivered))
		require.False(t, settle(held[0], opDelivered), "a repeat")
		m := w.show("t", "a")
		require.Equal(t, Delivered, m.State)
		require.Equal(t, 2, m.Attempts)
		counts, failed := w.messages.Count(ctx, []Subscription{topic})
		require.NoError(t, errors.Join(failed...))
		require.Equal(t, Counts{}, counts[0])
	})
}

func TestAMessageThatKillsItsDelivererDiesInTheEnd(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.messages.cfg.Lease = time.Millisecond
		topic := w.own("t")
		topic.Retries = 1
		w.add("t", msg("a", 0))
		for attempt := 1; attempt <= 2; attempt++ {
			claimed, err := w.messages.claim(ctx, w.own("t"), 1)
			require.NoError(t, err)
			require.Equal(t, attempt, claimed[0].Attempt)
			require.Eventually(t, func() bool {
				found, err := w.messages.reclaim(ctx, topic)
				require.NoError(t, err)
				if attempt == 2 && found.dead == 1 {
					require.Equal(t, "a", found.deadID)
				}
				return found.again == 1 || found.dead == 1
			}, patience, time.Millisecond)
		}
		m := w.show("t", "a")
		require.Equal(t, Dead, m.State)
		require.Equal(t, 2, m.Attempts)
		require.NotEmpty(t, m.Body)
	})
}

func TestDeadLettersAreListedRetriedAndDropped(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.add("t", msg("a", 0), msg("b", 0), msg("c", 0))
		claimed, err := w.messages.claim(ctx, w.own("t"), 10)
		require.NoError(t, err)
		for i, d := range claimed {
			op := byte(opDead)
			if i == 2 {
				op = opRetry
			}
			_, err := w.messages.settle(ctx, w.own("t"), []outcome{{ID: d.ID, token: d.token, op: op,
				value: time.Hour.Milliseconds(), err: "no\tanswer"}})
			require.NoError(t, err)
		}
		counts, failed := w.messages.Count(ctx, []Subscription{ownOf("t")})
		require.NoError(t, errors.Join(failed...))
		require.Equal(t, Counts{Retrying: 1, Dead: 2}, counts[0])
		dead, err := w.messages.DeadLetters(ctx, ownOf("t"), 0, 10)
		require.NoError(t, err)
		require.Len(t, dead, 2)
		require.Equal(t, "no answer", dead[0].Error)
		page, err := w.messages.DeadLetters(ctx, ownOf("t"), 1, 1)
		require.NoError(t, err)
		require.Equal(t, dead[1:], page)

		require.NoError(t, w.messages.Retry(ctx, ownOf("t"), "a"))
		require.Equal(t, Pending, w.show("t", "a").State)
		require.ErrorIs(t, w.messages.Retry(ctx, ownOf("t"), "a"), ErrNotDead)
		require.NoError(t, w.messages.Drop(ctx, ownOf("t"), "b"))
		require.Equal(t, Dropped, w.show("t", "b").State)
		require.ErrorIs(t, w.messages.Drop(ctx, ownOf("t"), "c"), ErrNotDead)
		require.NoError(t, w.messages.Cancel(ctx, ownOf("t"), "c"), "between two attempts it waits")
		claimed, err = w.messages.claim(ctx, w.own("t"), 10)
		require.NoError(t, err)
		require.Len(t, claimed, 1)
		require.Equal(t, 1, claimed[0].Attempt, "its attempts were forgotten")
	})
}

// TestConcurrentClaimsShareNothing checks that no message is lost and none is leased twice, however scripts interleave.
func TestConcurrentClaimsShareNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.Redis(t).Addr(), tables.New(t, "sqlite"), testConfig())
	const n = 2000
	w.fill("t", "m", n, func(int) time.Time { return time.Now().Add(-time.Second) })
	found := make(chan string, n)
	done := make(chan error, 4)
	for range 4 {
		go func() {
			done <- func() error {
				for {
					claimed, err := w.messages.claim(context.Background(), w.own("t"), 37)
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
