package queue_test

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
	"sluice/queue"
)

// tunable is consume for tests that change the consumer while it runs.
func tunable(b *box, c queue.Config, size int, h queue.Handler) (*queue.Consumer, *prometheus.Registry) {
	b.t.Helper()
	reg := prometheus.NewRegistry()
	consumer, err := queue.NewConsumer(c, queue.PoolConfig{Size: size}, b.lines, func() []string { return []string{b.Sale()} }, h, slog.New(slog.DiscardHandler),
		time.Now, reg)
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		require.NoError(b.t, <-ended)
	})
	return consumer, reg
}

// Pool, batch and cap change fifty times under load: every ticket ends once, none waits for longer than a few batches.
func TestTuningUnderLoadLosesNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		w := &worker{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) // work that takes its time, so that the changes fall into it; nothing waits for it
			return all(batch, queue.OpConfirm), nil
		}}
		consumer, _ := tunable(b, quick(), 4, w)
		stop := make(chan struct{})
		var tuning sync.WaitGroup
		tuning.Go(func() {
			for i := 0; i < 50; i++ {
				consumer.SetPool(1 + i*7%9)
				consumer.SetBatch(1 + i*13%40)
				if err := b.Recap(b.ctx, b.epoch, 2000+i); err != nil {
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
			order = append(order, b.enqueue(50)...)
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
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	running, open := make(chan struct{}, 100), make(chan struct{})
	w := &worker{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		running <- struct{}{}
		<-open
		return all(batch, queue.OpConfirm), nil
	}}
	consumer, _ := tunable(b, quick(), 1, w)
	b.enqueue(100)
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
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	c := quick()
	c.Held = []string{b.Sale()}
	w := &worker{}
	consumer, reg := tunable(b, c, 2, w)
	order := b.enqueue(30)
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

func TestRecap(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		b.enqueue(3)
		require.NoError(t, b.Recap(b.ctx, b.epoch, 3))
		v, err := b.View(b.ctx)
		require.NoError(t, err)
		require.EqualValues(t, 3, v.Cap)
		answers, err := b.Admit(b.ctx, b.epoch, rate, []queue.Request{{ID: "late", User: "late", Units: 1, Fingerprint: "f"}})
		require.NoError(t, err)
		require.ErrorIs(t, answers[0].Err, queue.ErrFull)
		require.ErrorIs(t, b.Recap(b.ctx, b.epoch+1, 9), queue.ErrNotReady)
		require.ErrorIs(t, b.lines.Of("nothing").Recap(b.ctx, 1, 9), queue.ErrNotReady)
	})
}

func TestInstancesSayThatTheyRun(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		rdb := dial(t, addr)
		require.NoError(t, rdb.Del(t.Context(), "sluice:{instances}").Err())
		instances := queue.NewInstances(rdb, queue.DefaultPrefix, slog.New(slog.DiscardHandler))
		started := time.UnixMilli(1_800_000_000_000).UTC()
		self := queue.Instance{ID: "a", Roles: []string{"gateway"}, Version: "v1", ConfigVersion: 3, ConfigFile: "abc", Payments: true, StartedAt: started}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			instances.Run(ctx, func() queue.Instance { return self })
		}()
		var found []queue.Instance
		require.Eventually(t, func() bool {
			var err error
			found, err = instances.List(t.Context())
			require.NoError(t, err)
			return len(found) == 1
		}, soon, 5*time.Millisecond)
		require.WithinDuration(t, time.Now(), found[0].LastSeen, time.Minute)
		found[0].LastSeen = time.Time{}
		require.Equal(t, []queue.Instance{self}, found)
		cancel()
		<-done
		found, err := instances.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, found, "it has said goodbye")

		// One that dies without a word lapses, and so does what nobody can read.
		past := "1000 2000 {}"
		require.NoError(t, rdb.HSet(t.Context(), "sluice:{instances}", "dead", past, "junk", "x").Err())
		found, err = instances.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
		require.Zero(t, rdb.HLen(t.Context(), "sluice:{instances}").Val())
	})
}
