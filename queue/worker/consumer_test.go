package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
	"sluice/queue/worker"
)

const soon = time.Minute

// recorder is a Handler that records what it is given. The test sets what it does.
type recorder struct {
	handle func(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) // nil: confirm everything

	mu       sync.Mutex
	handled  []string // in the order they were handed over
	batches  []queue.Batch
	at       []time.Time
	buried   map[string]string
	now, max int
}

func (w *recorder) Handle(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
	w.mu.Lock()
	w.now++
	w.max = max(w.max, w.now)
	w.handled = append(w.handled, queues.IDs(b)...)
	w.batches = append(w.batches, b)
	w.at = append(w.at, time.Now())
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.now--
		w.mu.Unlock()
	}()
	if w.handle != nil {
		return w.handle(ctx, b)
	}
	return queues.Outcomes(b, queue.OpConfirm), nil
}

func (w *recorder) Bury(_ context.Context, b queue.Batch, reason string) ([]queue.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buried == nil {
		w.buried = map[string]string{}
	}
	w.buried[b.Tickets[0].ID] = reason
	return []queue.Outcome{{ID: b.Tickets[0].ID, Op: queue.OpDead, Reason: reason}}, nil
}

// seen returns what was handed over so far.
func (w *recorder) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.handled)
}

func quick() queue.Config {
	c := queue.DefaultConfig()
	c.Batch, c.Backoff, c.MaxAttempts = 10, time.Millisecond, 3
	return c
}

// consume runs a consumer until the test ends or stop is called; stop fails
// the test when Run does not end well.
func consume(b *box, c queue.Config, size int, h worker.Handler, sales func() []string) (stop func()) {
	b.T.Helper()
	if sales == nil {
		sales = func() []string { return []string{b.Sale()} }
	}
	return b.run(b.consumer(c, size, h, sales))
}

func (b *box) consumer(c queue.Config, size int, h worker.Handler, sales func() []string) *worker.Consumer {
	b.T.Helper()
	consumer, err := worker.New(worker.Options{
		Config: c, Pool: worker.PoolConfig{Size: size}, Lines: b.Lines, Sales: sales, Handler: h,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(b.T, err)
	return consumer
}

func (b *box) run(consumer *worker.Consumer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				b.T.Errorf("Run: %v", err)
			}
		})
	}
	b.T.Cleanup(stop)
	return stop
}

// drained waits until nothing is in flight and checks that nothing got lost.
func (b *box) drained() {
	b.T.Helper()
	require.Eventually(b.T, func() bool {
		v, err := b.View(b.Ctx)
		return err == nil && !v.InFlight()
	}, soon, 2*time.Millisecond)
	b.CheckUnits(3)
}

func confirmedAll(b *box, order []string) {
	b.T.Helper()
	known, _, err := b.Lookup(b.Ctx, order)
	require.NoError(b.T, err)
	for _, id := range order {
		require.Equal(b.T, queue.Confirmed, known[id].State, id)
	}
}

func TestConsumerDrainsInOrder(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(95)
		w := &recorder{}
		stop := consume(b, quick(), 1, w, nil)
		b.drained()
		stop()
		require.Equal(t, order, w.seen())
		require.Len(t, w.batches, 10, "batches grow with the backlog")
		confirmedAll(b, order)
	})
}

// A long line makes batches of several claims, each one settled in parts; what is left of it makes smaller ones.
func TestALongLineMakesLargeBatches(t *testing.T) {
	t.Parallel()
	const tickets, part = 9000, 2500
	settings := queues.OpenSale()
	settings.Cap, settings.Total = tickets, tickets
	b := newBox(t, testkit.Redis(t).Addr(), settings)
	order := b.Enqueue(tickets)
	w := &recorder{}
	stop := consume(b, queue.DefaultConfig(), 1, w, nil)
	b.drained()
	stop()
	require.Equal(t, order, w.seen(), "in the order of arrival, each once")
	confirmedAll(b, order)
	var sizes []int
	for _, batch := range w.batches {
		sizes = append(sizes, len(batch.Tickets))
	}
	require.LessOrEqual(t, sizes[0], 500, "nobody knows yet how fast the database is: %v", sizes)
	require.Greater(t, slices.Max(sizes), part, "the batches do not grow with the line: %v", sizes)
	require.LessOrEqual(t, sizes[len(sizes)-1], 200, "the end of the line is no long line: %v", sizes)
}

func TestConsumerIsBoundByItsPool(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	const size = 3
	b.Enqueue(200)
	full, open := make(chan struct{}, 100), make(chan struct{})
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		full <- struct{}{}
		<-open
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	consume(b, quick(), size, w, nil)
	for range size {
		<-full // every worker is busy at the same time
	}
	require.EqualValues(t, 200-size*10, b.MustView().Waiting, "nothing is claimed for a worker that is not there")
	close(open)
	b.drained()
	require.Equal(t, size, w.max)
}

// Run ends while tickets keep coming, and leaves nothing behind.
func TestConsumerStopsUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	busy := make(chan struct{}, 1000)
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		busy <- struct{}{}
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	stop := consume(b, quick(), 4, w, nil)
	order := b.Enqueue(900)
	for range 5 {
		<-busy
	}
	stop()
	handled := len(w.seen())
	v := b.MustView()
	require.Zero(t, v.Leased, "something stays leased")
	require.EqualValues(t, 900-handled, v.Waiting)
	require.Less(t, handled, 900, "it was stopped too late to show anything")
	b.CheckUnits(3)
	consume(b, quick(), 4, w, nil)
	b.drained()
	confirmedAll(b, order)
	require.Len(t, w.seen(), 900, "nothing ran twice")
}

func TestConsumerLeavesNoGoroutine(t *testing.T) {
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	b.Enqueue(50)
	before := goleak.IgnoreCurrent()
	stop := consume(b, quick(), 4, &recorder{}, nil)
	b.drained()
	stop()
	_ = b.Redis.Close()
	goleak.VerifyNone(t, before)
}

func TestTwoConsumersShareALine(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(400)
		w := &recorder{}
		consume(b, quick(), 3, w, nil)
		consume(&box{Bench: queues.On(t, testkit.ProductClient(t, addr), b.Sale())}, quick(), 3, w, nil)
		order = append(order, b.Enqueue(300)...)
		b.drained()
		confirmedAll(b, order)
		seen := w.seen()
		slices.Sort(seen)
		slices.Sort(order)
		require.Equal(t, order, seen, "a ticket was handled twice or never")
		require.Equal(t, fmt.Sprint(700), fmt.Sprint(b.MustView().Served))
	})
}
