package worker_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
	"sluice/queue/worker"
)

func TestPanicHarmsOnlyItsTicket(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	order := b.Enqueue(30)
	bad := order[4]
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if slices.Contains(queues.IDs(batch), bad) {
			panic("poisoned " + bad)
		}
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	stop := consume(b, quick(), 1, w, nil)
	b.drained()
	stop()
	require.Equal(t, map[string]string{bad: "gave up after 3 attempts"}, w.buried)
	require.Equal(t, queue.Failed, b.Ticket(bad).State)
	require.Equal(t, "gave up after 3 attempts", b.Ticket(bad).Reason)
	require.Equal(t, []string{bad}, b.List("dead"))
	confirmedAll(b, slices.DeleteFunc(slices.Clone(order), func(id string) bool { return id == bad }))
	for i, batch := range w.batches {
		if i > 0 && slices.Contains(queues.IDs(batch), bad) {
			require.True(t, batch.Solo, "it is retried alone")
			require.Len(t, batch.Tickets, 1)
		}
	}
	for _, id := range order[10:] {
		require.Equal(t, 1, count(w.handled, id), "other batches did not notice")
	}
	require.Equal(t, 3, count(w.handled, bad))
	require.Empty(t, b.Attempts())
}

func count(list []string, one string) (n int) {
	for _, id := range list {
		if id == one {
			n++
		}
	}
	return n
}

// What all tickets need is away: that is no ticket's fault.
func TestFaultCountsForNobody(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(25)
		var up atomic.Bool
		failed := make(chan struct{}, 1000)
		w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
			if !up.Load() {
				failed <- struct{}{}
				return nil, errors.New("the database is away")
			}
			return queues.Outcomes(batch, queue.OpConfirm), nil
		}}
		stop := consume(b, quick(), 1, w, nil)
		for range 5 {
			<-failed
		}
		require.Empty(t, b.Attempts())
		require.Zero(t, b.MustView().Dead)
		up.Store(true)
		b.drained()
		stop()
		confirmedAll(b, order)
		require.Empty(t, w.buried)
		for i, batch := range w.batches {
			require.False(t, batch.Solo)
			require.Equal(t, order[:10], queues.IDs(w.batches[0]))
			if i > 0 && i < 5 {
				require.Equal(t, order[:10], queues.IDs(batch), "they keep their place")
				pause := worker.FirstPause << (i - 1)
				require.GreaterOrEqual(t, w.at[i].Sub(w.at[i-1]), pause, "pause %d", i)
			}
		}
	})
}

// A handler that hangs until its deadline still gives its batch back.
func TestDeadlineCountsForNobody(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	order := b.Enqueue(5)
	var calls atomic.Int32
	w := &recorder{handle: func(ctx context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if calls.Add(1) == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	c := quick()
	c.Lease = 2 * time.Second
	stop := consume(b, c, 1, w, nil)
	b.drained()
	stop()
	confirmedAll(b, order)
	require.Len(t, w.batches, 2, "one retry of all of them, not one of each")
	require.False(t, w.batches[1].Solo)
}

// Handlers that answer too little, too much or nonsense lose no ticket.
func TestIncompleteAnswersLoseNothing(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	order := b.Enqueue(10)
	other := b.Lines.Of("sale")
	var calls atomic.Int32
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		outcomes := queues.Outcomes(batch, queue.OpConfirm)
		if calls.Add(1) > 1 {
			return outcomes, nil
		}
		outcomes = outcomes[:4]
		outcomes[3].Op = 0
		return append(outcomes, outcomes[0], queue.Outcome{ID: outcomes[1].ID, Op: queue.OpBack},
			queue.Outcome{ID: "stranger", Op: queue.OpBack}), nil
	}}
	stop := consume(b, quick(), 1, w, nil)
	b.drained()
	stop()
	confirmedAll(b, order)
	require.Equal(t, append(slices.Clone(order), order[3:]...), w.seen())
	view, err := other.View(b.Ctx)
	require.NoError(t, err)
	require.EqualValues(t, 10, view.Served)
}

func TestRetryIsTriedAloneAndBuriedInTheEnd(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	order := b.Enqueue(3)
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		outcomes := queues.Outcomes(batch, queue.OpConfirm)
		for i := range outcomes {
			if outcomes[i].ID == order[1] {
				outcomes[i] = queue.Outcome{ID: order[1], Op: queue.OpRetry}
			}
		}
		return outcomes, nil
	}}
	stop := consume(b, quick(), 2, w, nil)
	b.drained()
	stop()
	require.Equal(t, map[string]string{order[1]: "gave up after 3 attempts"}, w.buried)
	require.Equal(t, []string{order[0], order[1], order[2], order[1], order[1]}, w.seen())
}

func TestUnreadableTicketIsDeadLettered(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	order := b.Enqueue(3)
	require.NoError(t, b.Redis.RPush(b.Ctx, b.Key("wait"), "ghost").Err())
	w := &recorder{}
	stop := consume(b, quick(), 1, w, nil)
	b.drained()
	stop()
	confirmedAll(b, order)
	require.Equal(t, []string{"ghost"}, b.List("dead"))
}
