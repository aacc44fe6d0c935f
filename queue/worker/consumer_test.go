package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"sluice/internal/testkit"
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
	w.handled = append(w.handled, ids(b)...)
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
	return all(b, queue.OpConfirm), nil
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
	b.t.Helper()
	if sales == nil {
		sales = func() []string { return []string{b.Sale()} }
	}
	return b.run(b.consumer(c, size, h, sales))
}

func (b *box) consumer(c queue.Config, size int, h worker.Handler, sales func() []string) *worker.Consumer {
	b.t.Helper()
	consumer, err := worker.New(worker.Options{
		Config: c, Pool: worker.PoolConfig{Size: size}, Lines: b.lines, Sales: sales, Handler: h,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(b.t, err)
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
				b.t.Errorf("Run: %v", err)
			}
		})
	}
	b.t.Cleanup(stop)
	return stop
}

// drained waits until nothing is in flight and checks that nothing got lost.
func (b *box) drained() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		v, err := b.View(b.ctx)
		return err == nil && !v.InFlight()
	}, soon, 2*time.Millisecond)
	b.conserved(3)
}

func confirmedAll(b *box, order []string) {
	b.t.Helper()
	known, _, err := b.Lookup(b.ctx, order)
	require.NoError(b.t, err)
	for _, id := range order {
		require.Equal(b.t, queue.Confirmed, known[id].State, id)
	}
}

func TestConsumerDrainsInOrder(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(95)
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
	settings := openSale()
	settings.Cap, settings.Total = tickets, tickets
	b := newBox(t, testkit.Redis(t).Addr(), settings)
	order := b.enqueue(tickets)
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
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	const size = 3
	b.enqueue(200)
	full, open := make(chan struct{}, 100), make(chan struct{})
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		full <- struct{}{}
		<-open
		return all(batch, queue.OpConfirm), nil
	}}
	consume(b, quick(), size, w, nil)
	for range size {
		<-full // every worker is busy at the same time
	}
	require.EqualValues(t, 200-size*10, b.view().Waiting, "nothing is claimed for a worker that is not there")
	close(open)
	b.drained()
	require.Equal(t, size, w.max)
}

func TestPanicHarmsOnlyItsTicket(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	order := b.enqueue(30)
	bad := order[4]
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if slices.Contains(ids(batch), bad) {
			panic("poisoned " + bad)
		}
		return all(batch, queue.OpConfirm), nil
	}}
	stop := consume(b, quick(), 1, w, nil)
	b.drained()
	stop()
	require.Equal(t, map[string]string{bad: "gave up after 3 attempts"}, w.buried)
	require.Equal(t, queue.Failed, b.ticket(bad).State)
	require.Equal(t, "gave up after 3 attempts", b.ticket(bad).Reason)
	require.Equal(t, []string{bad}, b.list("dead"))
	confirmedAll(b, slices.DeleteFunc(slices.Clone(order), func(id string) bool { return id == bad }))
	for i, batch := range w.batches {
		if i > 0 && slices.Contains(ids(batch), bad) {
			require.True(t, batch.Solo, "it is retried alone")
			require.Len(t, batch.Tickets, 1)
		}
	}
	for _, id := range order[10:] {
		require.Equal(t, 1, count(w.handled, id), "other batches did not notice")
	}
	require.Equal(t, 3, count(w.handled, bad))
	require.Empty(t, b.attempts())
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
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(25)
		var up atomic.Bool
		failed := make(chan struct{}, 1000)
		w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
			if !up.Load() {
				failed <- struct{}{}
				return nil, errors.New("the database is away")
			}
			return all(batch, queue.OpConfirm), nil
		}}
		stop := consume(b, quick(), 1, w, nil)
		for range 5 {
			<-failed
		}
		require.Empty(t, b.attempts())
		require.Zero(t, b.view().Dead)
		up.Store(true)
		b.drained()
		stop()
		confirmedAll(b, order)
		require.Empty(t, w.buried)
		for i, batch := range w.batches {
			require.False(t, batch.Solo)
			require.Equal(t, order[:10], ids(w.batches[0]))
			if i > 0 && i < 5 {
				require.Equal(t, order[:10], ids(batch), "they keep their place")
				pause := worker.FirstPause << (i - 1)
				require.GreaterOrEqual(t, w.at[i].Sub(w.at[i-1]), pause, "pause %d", i)
			}
		}
	})
}

// A handler that hangs until its deadline still gives its batch back.
func TestDeadlineCountsForNobody(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	order := b.enqueue(5)
	var calls atomic.Int32
	w := &recorder{handle: func(ctx context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if calls.Add(1) == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return all(batch, queue.OpConfirm), nil
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
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	order := b.enqueue(10)
	other := b.lines.Of("sale")
	var calls atomic.Int32
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		outcomes := all(batch, queue.OpConfirm)
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
	view, err := other.View(b.ctx)
	require.NoError(t, err)
	require.EqualValues(t, 10, view.Served)
}

func TestRetryIsTriedAloneAndBuriedInTheEnd(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	order := b.enqueue(3)
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		outcomes := all(batch, queue.OpConfirm)
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
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	order := b.enqueue(3)
	require.NoError(t, b.rdb.RPush(b.ctx, b.key("wait"), "ghost").Err())
	w := &recorder{}
	stop := consume(b, quick(), 1, w, nil)
	b.drained()
	stop()
	confirmedAll(b, order)
	require.Equal(t, []string{"ghost"}, b.list("dead"))
}

// Run ends while tickets keep coming, and leaves nothing behind.
func TestConsumerStopsUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	busy := make(chan struct{}, 1000)
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		busy <- struct{}{}
		return all(batch, queue.OpConfirm), nil
	}}
	stop := consume(b, quick(), 4, w, nil)
	order := b.enqueue(900)
	for range 5 {
		<-busy
	}
	stop()
	handled := len(w.seen())
	v := b.view()
	require.Zero(t, v.Leased, "something stays leased")
	require.EqualValues(t, 900-handled, v.Waiting)
	require.Less(t, handled, 900, "it was stopped too late to show anything")
	b.conserved(3)
	consume(b, quick(), 4, w, nil)
	b.drained()
	confirmedAll(b, order)
	require.Len(t, w.seen(), 900, "nothing ran twice")
}

func TestConsumerLeavesNoGoroutine(t *testing.T) {
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	b.enqueue(50)
	before := goleak.IgnoreCurrent()
	stop := consume(b, quick(), 4, &recorder{}, nil)
	b.drained()
	stop()
	_ = b.rdb.Close()
	goleak.VerifyNone(t, before)
}

func TestTwoConsumersShareALine(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(400)
		w := &recorder{}
		consume(b, quick(), 3, w, nil)
		consume(&box{Line: b.Line, t: t, ctx: b.ctx,
			lines: queue.NewLines(testkit.ProductClient(t, addr), queue.DefaultPrefix), rdb: b.rdb}, quick(), 3, w, nil)
		order = append(order, b.enqueue(300)...)
		b.drained()
		confirmedAll(b, order)
		seen := w.seen()
		slices.Sort(seen)
		slices.Sort(order)
		require.Equal(t, order, seen, "a ticket was handled twice or never")
		require.Equal(t, fmt.Sprint(700), fmt.Sprint(b.view().Served))
	})
}
