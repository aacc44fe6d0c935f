package order_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/order"
	"sluice/queue"
)

// script is a handler that does what it is told, one turn after the other.
type script []func(context.Context, queue.Batch) ([]queue.Outcome, error)

func (s *script) Handle(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
	do := (*s)[0]
	*s = (*s)[1:]
	return do(ctx, b)
}

func (s *script) HandleMultiSale(context.Context, []queue.Batch) ([][]queue.Outcome, error) {
	return nil, errors.ErrUnsupported
}

func (s *script) Bury(ctx context.Context, b queue.Batch, _ string) ([]queue.Outcome, error) {
	return s.Handle(ctx, b)
}

func (w *world) journal(turns ...func(context.Context, queue.Batch) ([]queue.Outcome, error)) *order.Journal {
	next := script(turns)
	return order.NewJournal(&next, w.lines, "worker-7", slog.New(slog.DiscardHandler), time.Now)
}

// steps are the events of an order's timeline, in short.
func (w *world) steps(id string) (short []string, events []order.Event) {
	w.t.Helper()
	timeline, err := order.NewTimelines(w.db, w.lines, w.finder).Of(w.ctx, id)
	require.NoError(w.t, err)
	for i, e := range timeline.Events {
		short = append(short, e.Step)
		require.False(w.t, e.At.IsZero())
		require.True(w.t, i == 0 || !e.At.Before(timeline.Events[i-1].At), "oldest first")
	}
	return short, timeline.Events
}

// What goes well leaves a timeline without having cost a thing.
func TestTimelineOfAnOrderThatWentWell(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		w.fulfiller.On("a-host-with-a-long-name/7")
		ticket := w.admit("ann", 1)
		short, _ := w.steps(ticket.ID)
		require.Equal(t, []string{"admitted"}, short, "in line")
		b := w.claim(1)
		outcomes, err := w.journal(w.fulfiller.Handle).Handle(w.ctx, b)
		require.NoError(t, err)
		w.settle(b, byID(outcomes))

		short, events := w.steps(ticket.ID)
		require.Equal(t, []string{"admitted", "claimed", "confirmed"}, short[:3])
		require.Len(t, short, 3+len(channels), "and its notifications")
		require.Equal(t, "ong-name/7", events[1].Instance[1:], "the end of the name tells instances apart")
		require.Len(t, events[1].Instance, 11)
		require.WithinDuration(t, time.Now(), events[1].At, time.Minute)
		require.Contains(t, events[3].Reason, "next try at")
		keys, err := w.rdb.Keys(w.ctx, "*steps*").Result()
		require.NoError(t, err)
		require.Empty(t, keys)
	})
}

// Each failed attempt says when, where and why, those of workers that died included.
func TestTimelineOfAnOrderThatFailed(t *testing.T) {
	eachDatabase(t, 3, 1, func(w *world) {
		ticket := w.admit("ann", 1)
		retry := func(context.Context, queue.Batch) ([]queue.Outcome, error) {
			return []queue.Outcome{{ID: ticket.ID, Op: queue.OpRetry, Reason: "a check failed"}}, nil
		}
		j := w.journal(retry, func(context.Context, queue.Batch) ([]queue.Outcome, error) { panic("bang") },
			w.fulfiller.Handle)
		b := w.claim(1)
		outcomes, err := j.Handle(w.ctx, b)
		require.NoError(t, err)
		w.settle(b, byID(outcomes)) // attempt 1
		require.Eventually(t, func() bool { n, err := w.line.Promote(w.ctx, 10); return err == nil && n == 1 },
			10*time.Second, time.Millisecond)

		b = w.claim(1)
		require.Panics(t, func() { _, _ = j.Handle(w.ctx, b) }) // attempt 2
		w.expire(b)
		named, err := w.lines.Named("worker-8").Of(theSale).Claim(w.ctx, "silent", 1, lease)
		require.NoError(t, err)
		w.expire(named) // attempt 3 dies without a word
		b = w.claim(1)
		outcomes, err = j.Handle(w.ctx, b)
		require.NoError(t, err)
		w.settle(b, byID(outcomes))
		require.NoError(t, w.canceller.Cancel(w.ctx, theSale, ticket.ID, "ann"))

		short, events := w.steps(ticket.ID)
		seen := map[string]order.Event{}
		for i, e := range events {
			if e.Attempt > 0 || i == 0 {
				seen[short[i]] = e
			}
		}
		require.Equal(t, "a check failed", seen["retried"].Reason)
		require.Equal(t, []int{1, 2, 3, 4}, []int{seen["retried"].Attempt, seen["panicked"].Attempt,
			seen["lost"].Attempt, seen["fulfilled"].Attempt})
		require.Equal(t, "worker-7", seen["panicked"].Instance)
		require.Equal(t, "worker-8", seen["lost"].Instance, "whose batch it was")
		require.Contains(t, short, "confirmed")
		require.Contains(t, short, "cancelled")
	})
}

func TestTimelineShowsOperatorsAndGivingUp(t *testing.T) {
	w := onSQLite(t, 3, 1)
	ticket := w.admit("ann", 1)
	b := w.claim(1)
	outcomes, err := w.journal(func(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
		return w.fulfiller.Bury(ctx, b, "gave up after 5 attempts")
	}).Bury(w.ctx, b, "gave up after 5 attempts")
	require.NoError(t, err)
	w.settle(b, byID(outcomes))
	require.NoError(t, order.NewDeadLetters(w.db, w.lines, w.adminLog()).
		Requeue(w.ctx, theSale, ticket.ID, "olga", "mended"))
	_, events := w.steps(ticket.ID)
	found := map[string]order.Event{}
	for _, e := range events {
		found[e.Step] = e
	}
	require.Equal(t, "gave up after 5 attempts", found["given up"].Reason)
	require.Equal(t, []string{"olga", "mended"}, []string{found["dead.requeue"].Actor, found["dead.requeue"].Reason})

	timelines, page, err := order.NewTimelines(w.db, w.lines, w.finder).ByUser(w.ctx, "ann", nil, 5)
	require.NoError(t, err)
	require.Nil(t, page.Next)
	require.Len(t, timelines, 1)
	require.Equal(t, ticket.ID, timelines[0].Order.ID)
	_, err = order.NewTimelines(w.db, w.lines, w.finder).Of(w.ctx, "nobody")
	require.ErrorIs(t, err, order.ErrNotFound)
}

// A store that is away is nobody's step: a long outage must not fill histories.
func TestOutageLeavesNoSteps(t *testing.T) {
	w := onSQLite(t, 3, 1)
	ticket := w.admit("ann", 1)
	away := errors.New("away")
	_, err := w.journal(func(context.Context, queue.Batch) ([]queue.Outcome, error) { return nil, away }).
		Handle(w.ctx, w.claim(1))
	require.ErrorIs(t, err, away)
	short, _ := w.steps(ticket.ID)
	require.Equal(t, []string{"admitted"}, short)
}
