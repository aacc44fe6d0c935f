package worker_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// What a multi-sale batch cannot do, each line does by itself, and nobody has failed for it.
func TestAFailedMultiSaleBatchRunsLineByLine(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(context.Context, []queue.Batch) ([][]queue.Outcome, error){
		"error": func(context.Context, []queue.Batch) ([][]queue.Outcome, error) {
			return nil, errors.New("not together")
		},
		"panic": func(context.Context, []queue.Batch) ([][]queue.Outcome, error) { panic("poisoned") },
		"too few": func(_ context.Context, b []queue.Batch) ([][]queue.Outcome, error) {
			return confirmEach(b)[1:],
				nil
		},
		"deadline": func(ctx context.Context, _ []queue.Batch) ([][]queue.Outcome, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, sales := boxes(t, testkit.Embedded(t).Addr(), 6)
			order := enqueueEach(list, 4)
			h := &host{handle: handle}
			c := wide()
			c.Lease = 2 * time.Second
			stop := consume(list[0], c, 4, h, sales)
			drainedEach(t, list)
			stop()
			joined, largest := h.together()
			require.Greater(t, largest, 1)
			require.ElementsMatch(t, order, h.seen(), "line by line, each ticket once")
			require.NotEmpty(t, joined)
			for _, b := range h.batches {
				require.False(t, b.Isolated, "nobody has failed")
				require.True(t, slices.IsSorted(queues.IDs(b)), "they kept their places")
			}
			for _, b := range list {
				require.Empty(t, b.Attempts())
			}
			require.Empty(t, h.buried)
		})
	}
}

// An answer that a multi-sale batch left out goes back, and comes again.
func TestAMultiSaleBatchThatLeavesOutATicket(t *testing.T) {
	t.Parallel()
	list, sales := boxes(t, testkit.Embedded(t).Addr(), 4)
	enqueueEach(list, 2)
	var once sync.Once
	h := &host{handle: func(_ context.Context, batches []queue.Batch) ([][]queue.Outcome, error) {
		answers := confirmEach(batches)
		once.Do(func() { answers[0] = answers[0][:1] })
		return answers, nil
	}}
	consumer := list[0].consumer(wide(), 4, h, sales)
	consumer.WorkMulti(sales())
	require.EqualValues(t, 1, list[0].MustView().Waiting)
	require.EqualValues(t, 1, list[0].MustView().Served)
	defer list[0].run(consumer)()
	drainedEach(t, list)
	for _, b := range list {
		confirmedAll(b, []string{b.Sale() + "-00001", b.Sale() + "-00002"})
		require.EqualValues(t, 2, b.MustView().Served)
	}
}

// A batch whose lease went while it ran with others is somebody else's; the others are settled.
func TestAMultiSaleBatchOfWhichOneWasTakenOver(t *testing.T) {
	t.Parallel()
	list, sales := boxes(t, testkit.Embedded(t).Addr(), 3)
	enqueueEach(list, 1)
	lost := list[1]
	h := &host{handle: func(_ context.Context, batches []queue.Batch) ([][]queue.Outcome, error) {
		lost.EndLease(batches[1].ID)
		_, _, err := lost.Reclaim(lost.Ctx)
		require.NoError(t, err)
		return confirmEach(batches), nil
	}}
	consumer := lost.consumer(wide(), 2, h, sales)
	consumer.WorkMulti(sales())
	for _, b := range list {
		want := int64(1)
		if b == lost {
			want = 0
		}
		require.Equal(t, want, b.MustView().Served)
	}
	require.Equal(t, queue.Queued, lost.Ticket(lost.Sale()+"-00001").State, "whoever has it now decides")
	defer lost.run(consumer)()
	drainedEach(t, list)
	require.EqualValues(t, 1, lost.MustView().Served)
	require.Equal(t, []string{lost.Sale() + "-00001"}, h.seen(), "it ran again, alone")
}
