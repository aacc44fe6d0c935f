package message_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/invalid"
	"sluice/internal/testkit/topics"
)

func TestAddingAgainGivesTheFirstAnswer(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		before := time.Now().Add(-time.Second)
		at := time.Now().Add(48 * time.Hour).Truncate(time.Millisecond).UTC()
		first := w.Add("t", topics.Message("a", time.Minute), delay.New{ID: "b", At: at, Body: []byte(`[1]`)})
		require.WithinRange(t, first[0], before.Add(time.Minute), time.Now().Add(time.Minute+time.Second))
		require.Equal(t, at, first[1])

		again := w.Add("t", topics.Message("a", time.Hour), delay.New{ID: "b", At: first[1], Body: []byte(`[1]`)},
			topics.Message("c", 0))
		require.Equal(t, first, again[:2])

		for name, other := range map[string]delay.New{
			"body": {ID: "a", Delay: time.Minute, Body: []byte(`{}`)},
			"time": {ID: "b", At: first[1].Add(time.Second), Body: []byte(`[1]`)},
		} {
			_, err := w.AddOwn(ctx, "t", []delay.New{topics.Message("d", 0), other})
			require.ErrorIs(t, err, delay.ErrConflict, name)
			require.ErrorContains(t, err, "message "+other.ID)
		}
		_, err := w.Messages.Show(ctx, delay.OwnOf("t"), "d")
		require.ErrorIs(t, err, delay.ErrNoMessage, "nothing of a refused call is taken")
		_, err = w.Messages.Show(ctx, delay.OwnOf("other"), "a")
		require.ErrorIs(t, err, delay.ErrNoMessage, "ids belong to their topic")
	})
}

func TestAFinishedMessageIsStillKnown(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		first := w.Add("t", topics.Message("a", time.Hour))
		require.NoError(t, w.Messages.Cancel(ctx, delay.OwnOf("t"), "a"))
		require.NoError(t, w.Messages.Cancel(ctx, delay.OwnOf("t"), "a"), "cancelling again")
		m := w.Show("t", "a")
		require.Equal(t, delay.Cancelled, m.State)
		require.Nil(t, m.Body)
		require.Equal(t, first[0], m.FirstDue)
		require.False(t, m.EndedAt.IsZero())
		again := w.Add("t", topics.Message("a", time.Hour))
		require.Equal(t, first, again, "the repeat of a call whose answer was lost")
		require.Equal(t, delay.Cancelled, w.Show("t", "a").State, "and it stays cancelled")
		_, err := w.AddOwn(ctx, "t", []delay.New{{ID: "a", Delay: time.Hour, Body: []byte(`1`)}})
		require.ErrorIs(t, err, delay.ErrConflict)
		require.ErrorIs(t, w.Messages.Cancel(ctx, delay.OwnOf("t"), "never"), delay.ErrNoMessage)
	})
}

func TestBoundsOfATopic(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t, func(c *delay.Config) { c.MaxMessages, c.Keep = 3, 2 })
	ctx := t.Context()
	w.Add("t", topics.Message("a", time.Hour), topics.Message("b", time.Hour))
	_, err := w.AddOwn(ctx, "t", []delay.New{topics.Message("c", time.Hour), topics.Message("d", time.Hour)})
	require.ErrorIs(t, err, delay.ErrFull)
	w.Add("t", topics.Message("c", time.Hour))
	w.Add("t", topics.Message("c", time.Hour)) // known: takes no place
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, w.Messages.Cancel(ctx, delay.OwnOf("t"), id))
	}
	_, err = w.Messages.Show(ctx, delay.OwnOf("t"), "a")
	require.ErrorIs(t, err, delay.ErrNoMessage, "the oldest finished record is forgotten")
	require.Equal(t, delay.Cancelled, w.Show("t", "b").State)
	w.Add("t", topics.Message("d", 0), topics.Message("e", 0), topics.Message("f", 0)) // finished ones take no place
}

func TestWhatAMessageMustBe(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	large := delay.New{ID: "a", Body: []byte(`"` + strings.Repeat("x", delay.MaxBody) + `"`)}
	many := make([]delay.New, delay.MaxBatch+1)
	for i := range many {
		many[i] = topics.Message(fmt.Sprint("m", i), 0)
	}
	for field, list := range map[string][]delay.New{
		"messages":             {},
		"messages must be":     many,
		"messages[0].id":       {topics.Message("", 0)},
		"messages[1].id":       {topics.Message("a", 0), topics.Message("a", 0)},
		"messages[0].body":     {{ID: "a"}},
		"messages[0].body mus": {{ID: "a", Body: []byte("no json")}},
		"messages[0].body mu":  {large},
		"messages[0].delay_ms": {topics.Message("a", -1)},
		"delay.max_delay":      {topics.Message("a", w.Config.MaxDelay+1)},
		"messages[0].at":       {{ID: "a", Delay: 1, At: time.Now(), Body: []byte("1")}},
		"away than":            {{ID: "a", At: time.Now().Add(w.Config.MaxDelay + time.Minute), Body: []byte("1")}},
	} {
		_, err := w.AddOwn(t.Context(), "t", list)
		_, invalid := errors.AsType[invalid.Error](err)
		require.True(t, invalid, "%s: %v", field, err)
		require.ErrorContains(t, err, field)
	}
	weak := w.Store(func(p *message.StoreParts) {
		at := p.Places[delay.DefaultStore]
		at.Durable = func() error { return errors.New("too weak") }
		p.Places[delay.DefaultStore] = at
	})
	_, err := w.AddTo(t.Context(), weak, "t", []delay.New{topics.Message("a", 0)})
	require.EqualError(t, err, "store default of delayed messages: too weak", "what Redis would not keep is not taken")
}
