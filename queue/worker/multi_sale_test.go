package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
	"sluice/queue/worker"
)

// host is a recorder that takes batches over several sales.
type host struct {
	recorder
	handle func(ctx context.Context, batches []queue.Batch) ([][]queue.Outcome, error) // nil: confirm everything

	at    sync.Mutex
	multi [][]queue.Batch
}

func (h *host) HandleMultiSale(ctx context.Context, batches []queue.Batch) ([][]queue.Outcome, error) {
	h.at.Lock()
	h.multi = append(h.multi, slices.Clone(batches))
	h.at.Unlock()
	if h.handle != nil {
		return h.handle(ctx, batches)
	}
	return confirmEach(batches), nil
}

func confirmEach(batches []queue.Batch) [][]queue.Outcome {
	var answers [][]queue.Outcome
	for _, b := range batches {
		answers = append(answers, queues.Outcomes(b, queue.OpConfirm))
	}
	return answers
}

// together returns every ticket of a multi-sale batch, and how many lines the largest had.
func (h *host) together() (order []string, largest int) {
	h.at.Lock()
	defer h.at.Unlock()
	for _, p := range h.multi {
		largest = max(largest, len(p))
		for _, b := range p {
			order = append(order, queues.IDs(b)...)
		}
	}
	return order, largest
}

// boxes are several lines on one Redis.
func boxes(t *testing.T, addr string, n int) (list []*box, sales func() []string) {
	t.Helper()
	rdb := testkit.ProductClient(t, addr)
	var names []string
	for i := range n {
		list = append(list, boxOn(t, rdb, fmt.Sprintf("sale-%02d", i), queues.OpenSale()))
		names = append(names, list[i].Sale())
	}
	return list, func() []string { return names }
}

func enqueueEach(list []*box, n int) (order []string) {
	for _, b := range list {
		order = append(order, b.Enqueue(n)...)
	}
	return order
}

func drainedEach(t *testing.T, list []*box) {
	t.Helper()
	for _, b := range list {
		b.drained()
		known := b.List("wait")
		require.Empty(t, known)
	}
}

// wide lets multi-sale batches have as many lines as they can.
func wide() queue.Config {
	c := quick()
	c.Batch = 1000
	return c
}

func TestSmallBatchesRunTogether(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		list, sales := boxes(t, addr, 12)
		order := enqueueEach(list, 3)
		h := &host{}
		stop := consume(list[0], wide(), 4, h, sales)
		drainedEach(t, list)
		stop()
		joined, largest := h.together()
		require.Greater(t, largest, 1)
		require.ElementsMatch(t, order, append(joined, h.seen()...), "each ticket once")
		for _, b := range list {
			confirmedAll(b, []string{b.Sale() + "-00001", b.Sale() + "-00002", b.Sale() + "-00003"})
			require.EqualValues(t, 3, b.MustView().Served)
			require.Zero(t, b.MustView().Leased)
		}
		for _, p := range h.multi {
			names := map[string]bool{}
			for _, one := range p {
				names[one.Sale] = true
			}
			require.Len(t, names, len(p), "a line is in it once")
		}
	})
}

// Whoever has failed, has ended or cannot be read runs with its own line only.
func TestOnlyPlainTicketsGoTogether(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		list, sales := boxes(t, addr, 6)
		order := enqueueEach(list, 2)
		isolated, cancelled, ghostly, much := list[0], list[1], list[2], list[3]
		dead := isolated.MustClaim("of a worker that died", 2)
		isolated.EndLease(dead.ID)
		_, _, err := isolated.Reclaim(isolated.Ctx)
		require.NoError(t, err)
		require.NoError(t, cancelled.Cancel(cancelled.Ctx, cancelled.Sale()+"-00002", "user-00002"))
		require.NoError(t, ghostly.Redis.RPush(ghostly.Ctx, ghostly.Key("wait"), "ghost").Err())
		order = append(order, much.Enqueue(100)...)

		h := &host{recorder: recorder{handle: func(_ context.Context, b queue.Batch) ([]queue.Outcome, error) {
			outcomes := queues.Outcomes(b, queue.OpConfirm)
			for i, ticket := range b.Tickets {
				if ticket.State == queue.Cancelled {
					outcomes[i].Op = queue.OpClose
				}
			}
			return outcomes, nil
		}}}
		stop := consume(list[0], wide(), 4, h, sales)
		drainedEach(t, list)
		stop()
		joined, largest := h.together()
		require.Greater(t, largest, 1, "the others went together")
		for _, b := range []*box{isolated, cancelled, ghostly} {
			require.NotContains(t, joined, b.Sale()+"-00001")
			require.NotContains(t, joined, b.Sale()+"-00002")
		}
		require.LessOrEqual(t, len(slices.DeleteFunc(slices.Clone(joined),
			func(id string) bool { return id[:7] != much.Sale() })), 20, "a line with much is taken by itself")
		require.ElementsMatch(t, order, append(joined, h.seen()...), "each ticket once")
		for _, b := range h.batches {
			if b.Sale == isolated.Sale() {
				require.True(t, b.Solo)
			}
		}
		require.Equal(t, map[string]string(nil), h.buried)
		require.Equal(t, []string{"ghost"}, ghostly.List("dead"))
		require.Equal(t, queue.Cancelled, cancelled.Ticket(cancelled.Sale()+"-00002").State)
	})
}

// A database that cannot take a multi-sale batch in time gets smaller ones, and none at last.
func TestSlowMultiSaleBatchesShrink(t *testing.T) {
	t.Parallel()
	list, sales := boxes(t, testkit.Embedded(t).Addr(), 8)
	enqueueEach(list, 5)
	clock := testkit.NewClock(time.Now())
	h := &host{handle: func(context.Context, []queue.Batch) ([][]queue.Outcome, error) {
		clock.Advance(10 * time.Second)
		return nil, context.DeadlineExceeded
	}}
	c := wide()
	c.Lease = 30 * time.Second
	consumer, err := worker.New(worker.Options{
		Config: c, Pool: worker.PoolConfig{Size: 2}, Lines: list[0].Lines, Sales: sales, Handler: h,
		Log: slog.New(slog.DiscardHandler), Now: clock.Now, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	first := consumer.MultiSize()
	consumer.WorkMulti(sales())
	second := consumer.MultiSize()
	require.Less(t, second, first)
	consumer.WorkMulti(sales())
	require.Less(t, consumer.MultiSize(), 2)
	list[0].run(consumer)()
}

// Where an operator wants batches of a few tickets, or the handler takes one line at a time, there are none.
func TestNoMultiSaleBatch(t *testing.T) {
	t.Parallel()
	t.Run("small batches", func(t *testing.T) {
		t.Parallel()
		list, sales := boxes(t, testkit.Embedded(t).Addr(), 5)
		order := enqueueEach(list, 2)
		h := &host{}
		stop := consume(list[0], quick(), 3, h, sales)
		drainedEach(t, list)
		stop()
		require.ElementsMatch(t, order, h.seen())
		require.Empty(t, h.multi)
	})
	t.Run("a plain handler", func(t *testing.T) {
		t.Parallel()
		list, sales := boxes(t, testkit.Embedded(t).Addr(), 5)
		order := enqueueEach(list, 2)
		w := &recorder{}
		stop := consume(list[0], wide(), 3, w, sales)
		drainedEach(t, list)
		stop()
		require.ElementsMatch(t, order, w.seen())
	})
}

// A Redis that has forgotten the scripts is told them again.
func TestAMultiSaleBatchAfterScriptsWereForgotten(t *testing.T) {
	t.Parallel()
	list, sales := boxes(t, testkit.Embedded(t).Addr(), 4)
	order := enqueueEach(list, 2)
	h := &host{handle: func(_ context.Context, batches []queue.Batch) ([][]queue.Outcome, error) {
		require.NoError(t, list[0].Redis.ScriptFlush(context.Background()).Err())
		return confirmEach(batches), nil
	}}
	consumer := list[0].consumer(wide(), 2, h, sales)
	require.NoError(t, list[0].Redis.ScriptFlush(context.Background()).Err())
	consumer.WorkMulti(sales())
	joined, _ := h.together()
	require.ElementsMatch(t, order, joined)
	for _, b := range list {
		require.EqualValues(t, 2, b.MustView().Served)
	}
	list[0].run(consumer)()
}

// A multi-sale batch that is held up, by a lock in the database or whatever else, holds up no other.
func TestOneMultiSaleBatchAtATimeForALine(t *testing.T) {
	t.Parallel()
	list, sales := boxes(t, testkit.Embedded(t).Addr(), 4)
	stuck := list[0]
	enqueueEach(list[:2], 1)
	started, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var ran atomic.Int32
	h := &host{handle: func(_ context.Context, batches []queue.Batch) ([][]queue.Outcome, error) {
		if ran.Add(1) == 1 {
			close(started)
			<-release
		}
		return confirmEach(batches), nil
	}}
	consumer := stuck.consumer(wide(), 4, h, sales)
	go func() {
		defer close(ended)
		consumer.WorkMulti(sales()[:2])
	}()
	<-started
	enqueueEach([]*box{stuck, list[2], list[3]}, 1)
	consumer.WorkMulti(sales())
	require.EqualValues(t, 1, stuck.MustView().Waiting, "it waits for the batch its line is in")
	for _, b := range list[2:] {
		require.EqualValues(t, 1, b.MustView().Served)
	}
	close(release)
	<-ended
	defer stuck.run(consumer)()
	drainedEach(t, list)
	require.EqualValues(t, 2, stuck.MustView().Served)
}
