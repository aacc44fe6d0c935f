package worker_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
	"sluice/queue/worker"
)

// tunable is consume for tests that change the consumer while it runs.
func tunable(b *box, c queue.Config, size int, h worker.Handler) (*worker.Consumer, *prometheus.Registry) {
	b.T.Helper()
	reg := prometheus.NewRegistry()
	consumer, err := worker.New(worker.Options{
		Config: c, Pool: worker.PoolConfig{Size: size}, Lines: b.Lines,
		Sales: func() []string { return []string{b.Sale()} }, Handler: h,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, Metrics: reg,
	})
	require.NoError(b.T, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx) }()
	b.T.Cleanup(func() {
		cancel()
		require.NoError(b.T, <-ended)
	})
	return consumer, reg
}

// Pool, batch and cap change fifty times under load: every ticket ends once, none waits for longer than a few batches.
func TestTuningUnderLoadLosesNothing(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
			// work that takes its time, so that the changes fall into it; nothing waits for it
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
			return queues.Outcomes(batch, queue.OpConfirm), nil
		}}
		consumer, _ := tunable(b, quick(), 4, w)
		stop := make(chan struct{})
		var tuning sync.WaitGroup
		tuning.Go(func() {
			for i := 0; i < 50; i++ {
				consumer.SetPool(1 + i*7%9)
				consumer.SetBatch(1 + i*13%40)
				if err := b.SetCap(b.Ctx, b.Epoch, 2000+i); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
		var order []string
		for range 20 {
			order = append(order, b.Enqueue(50)...)
		}
		b.drained()
		close(stop)
		tuning.Wait()
		require.ElementsMatch(t, order, w.seen(), "each ticket was handed over once")
		confirmedAll(b, order)
		require.LessOrEqual(t, w.max, 9)
	})
}

func TestASmallerPoolRunsFewerBatches(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	running, open := make(chan struct{}, 100), make(chan struct{})
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		running <- struct{}{}
		<-open
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	consumer, _ := tunable(b, quick(), 1, w)
	b.Enqueue(100)
	<-running
	consumer.SetPool(3) // wakes the dispatcher that waits for the only worker
	<-running
	<-running
	consumer.SetPool(1)
	close(open)
	b.drained()
	require.Equal(t, 3, w.max)
}

func TestAHeldLineIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	c := quick()
	c.Held = []string{b.Sale()}
	w := &recorder{}
	consumer, reg := tunable(b, c, 2, w)
	order := b.Enqueue(30)
	gauge := func() float64 { return testutil.ToFloat64(gathered{reg, "sluice_drain_open"}) }
	require.Zero(t, gauge())
	// It stays so over several sweeps.
	require.Never(t, func() bool { return len(w.seen()) > 0 }, 700*time.Millisecond, 50*time.Millisecond)
	consumer.Hold(true, nil)
	require.True(t, consumer.Holds(b.Sale()))
	consumer.Hold(false, []string{"another"})
	b.drained()
	confirmedAll(b, order)
	require.InDelta(t, 1, gauge(), 0)
}

// gathered is one metric of a registry without labels to choose by.
type gathered struct {
	reg  *prometheus.Registry
	name string
}

func (g gathered) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, ch) }

func (g gathered) Collect(ch chan<- prometheus.Metric) {
	families, _ := g.reg.Gather()
	for _, f := range families {
		if f.GetName() == g.name {
			value := f.GetMetric()[0].GetGauge().GetValue()
			ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(g.name, "", nil, nil), prometheus.GaugeValue, value)
		}
	}
}
