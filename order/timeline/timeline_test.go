package timeline_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/order/timeline"
	"sluice/queue"
)

// script is a handler that takes one step after the other.
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

func journal(w *orders.World, steps ...func(context.Context, queue.Batch) ([]queue.Outcome, error)) *timeline.Journal {
	next := script(steps)
	return timeline.NewJournal(&next, w.Lines, "worker-7", slog.New(slog.DiscardHandler), time.Now)
}

// What goes well leaves a timeline without having cost a thing.
func TestTimelineOfAnOrderThatWentWell(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		w.Fulfiller.On("a-host-with-a-long-name/7")
		ticket := w.Admit("ann", 1)
		short, _ := w.Steps(ticket.ID)
		require.Equal(t, []string{"admitted"}, short, "in line")
		b := w.Claim(1)
		outcomes, err := journal(w, w.Fulfiller.Handle).Handle(w.Ctx, b)
		require.NoError(t, err)
		w.Settle(b, orders.ByID(outcomes))

		short, events := w.Steps(ticket.ID)
		require.Equal(t, []string{"admitted", "claimed", "confirmed"}, short[:3])
		require.Len(t, short, 3+len(orders.Channels()), "and its notifications")
		require.Equal(t, "ong-name/7", events[1].Instance[1:], "the end of the name tells instances apart")
		require.Len(t, events[1].Instance, 11)
		require.WithinDuration(t, time.Now(), events[1].At, time.Minute)
		require.Contains(t, events[3].Reason, "next try at")
		keys, err := w.Redis.Keys(w.Ctx, "*steps*").Result()
		require.NoError(t, err)
		require.Empty(t, keys)
	})
}

// Each failed attempt says when, where and why, those of workers that died included.
func TestTimelineOfAnOrderThatFailed(t *testing.T) {
	orders.EachDatabase(t, 3, 1, func(w *orders.World) {
		ticket := w.Admit("ann", 1)
		retry := func(context.Context, queue.Batch) ([]queue.Outcome, error) {
			return []queue.Outcome{{ID: ticket.ID, Op: queue.OpRetry, Reason: "a check failed"}}, nil
		}
		j := journal(w, retry, func(context.Context, queue.Batch) ([]queue.Outcome, error) { panic("bang") },
			w.Fulfiller.Handle)
		b := w.Claim(1)
		outcomes, err := j.Handle(w.Ctx, b)
		require.NoError(t, err)
		w.Settle(b, orders.ByID(outcomes)) // attempt 1
		require.Eventually(t, func() bool { n, err := w.Line.Promote(w.Ctx, 10); return err == nil && n == 1 },
			10*time.Second, time.Millisecond)

		b = w.Claim(1)
		require.Panics(t, func() { _, _ = j.Handle(w.Ctx, b) }) // attempt 2
		w.EndLease(b)
		named, err := w.Lines.ForInstance("worker-8", 0).Of(orders.Sale).Claim(w.Ctx, "silent", 1, orders.Lease)
		require.NoError(t, err)
		w.EndLease(named) // attempt 3 dies without a word
		b = w.Claim(1)
		outcomes, err = j.Handle(w.Ctx, b)
		require.NoError(t, err)
		w.Settle(b, orders.ByID(outcomes))
		require.NoError(t, w.Canceller.Cancel(w.Ctx, orders.Sale, ticket.ID, "ann"))

		short, events := w.Steps(ticket.ID)
		seen := map[string]timeline.Event{}
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
	w := orders.OnSQLite(t, 3, 1)
	ticket := w.Admit("ann", 1)
	b := w.Claim(1)
	outcomes, err := journal(w, func(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
		return w.Fulfiller.Bury(ctx, b, "gave up after 5 attempts")
	}).Bury(w.Ctx, b, "gave up after 5 attempts")
	require.NoError(t, err)
	w.Settle(b, orders.ByID(outcomes))
	require.NoError(t, w.DeadLetters().
		Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", "mended"))
	_, events := w.Steps(ticket.ID)
	found := map[string]timeline.Event{}
	for _, e := range events {
		found[e.Step] = e
	}
	require.Equal(t, "gave up after 5 attempts", found["given up"].Reason)
	require.Equal(t, []string{"olga", "mended"}, []string{found["dead.requeue"].Actor, found["dead.requeue"].Reason})

	timelines, page, err := w.Timelines().ByUser(w.Ctx, "ann", nil, 5)
	require.NoError(t, err)
	require.Nil(t, page.Next)
	require.Len(t, timelines, 1)
	require.Equal(t, ticket.ID, timelines[0].Order.ID)
	_, err = w.Timelines().Of(w.Ctx, "nobody")
	require.ErrorIs(t, err, order.ErrNotFound)
}

// A store that is away is nobody's step: a long outage must not fill histories.
func TestOutageLeavesNoSteps(t *testing.T) {
	w := orders.OnSQLite(t, 3, 1)
	ticket := w.Admit("ann", 1)
	away := errors.New("away")
	_, err := journal(w, func(context.Context, queue.Batch) ([]queue.Outcome, error) { return nil, away }).
		Handle(w.Ctx, w.Claim(1))
	require.ErrorIs(t, err, away)
	short, _ := w.Steps(ticket.ID)
	require.Equal(t, []string{"admitted"}, short)
}

// What the database knows of an order is shown also when its line cannot be asked.
func TestATimelineWithoutItsLine(t *testing.T) {
	orders.EachDatabase(t, 10, 2, func(w *orders.World) {
		one := w.Admit("ann", 1)
		w.Work()
		w.BreakLine(orders.Sale, "steps:"+one.ID)
		timelines := w.Timelines()
		list, page, err := timelines.ByUser(w.Ctx, "ann", nil, 10)
		require.NoError(w.T, err)
		require.Len(w.T, list, 1)
		require.Nil(w.T, page.Next)
		var steps []string
		for _, e := range list[0].Events {
			steps = append(steps, e.Step)
		}
		require.Contains(w.T, steps, "admitted")
		require.Contains(w.T, steps, order.Confirmed)
		require.Contains(w.T, steps, "steps not read")
	})
}
