package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
	"sluice/queue/worker"
)

// Each test here puts a broken line beside a healthy one and looks at the healthy one.

// troubled leaves in a line all that only a sweep finds: tickets that nobody announced, a lease that has run out, a
// retry that is due.
func (b *box) troubled() (order []string) {
	b.T.Helper()
	order = b.Enqueue(9)
	dead := b.MustClaim(b.Sale()+"-dead", 3)
	b.EndLease(dead.ID)
	again := b.MustClaim(b.Sale()+"-again", 3)
	b.SettleAll(again, queue.OpRetry)
	for _, t := range again.Tickets {
		b.EndDelay(t.ID)
	}
	return order
}

// Whichever key of a line is broken, recovery, retries and draining go on in the other, and nothing says that draining
// has paused.
func TestABrokenLineKeepsNothingFromTheOther(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		t.Parallel()
		rdb := testkit.ProductClient(t, addr)
		for _, name := range []string{"meta", "stock", "wait", "suspect", "lease", "leased", "orders", "holders",
			"attempts", "retry", "recent", "done"} {
			broken := boxOn(t, rdb, "broken-"+name, queues.OpenSale())
			well := boxOn(t, rdb, "well-"+name, queues.OpenSale())
			broken.Enqueue(5)
			broken.Overwrite(name)
			order := well.troubled()
			sales := func() []string { return []string{broken.Sale(), well.Sale()} }
			consumer, err := worker.New(worker.Options{
				Config: wide(), Pool: worker.PoolConfig{Size: 2}, Lines: well.Lines, Sales: sales, Handler: &host{},
				Log: slog.New(slog.DiscardHandler), Now: time.Now, Metrics: prometheus.NewRegistry(),
			})
			require.NoError(t, err)
			stop := well.run(consumer)
			well.drained()
			confirmedAll(well, order)
			order = well.Enqueue(5)
			well.drained()
			confirmedAll(well, order)
			_, paused := consumer.Paused()
			require.False(t, paused, name)
			stop()
		}
	})
}

// A line whose batches fail one after the other takes few limiter, and those between have no pause.
func TestALineThatFailsTakesNoTurnsFromTheOther(t *testing.T) {
	t.Parallel()
	rdb := testkit.ProductClient(t, testkit.Embedded(t).Addr())
	broken, well := boxOn(t, rdb, "broken", queues.OpenSale()), boxOn(t, rdb, "well", queues.OpenSale())
	broken.Enqueue(20)
	order := well.Enqueue(900)
	var failed, went, paused atomic.Int64
	var consumer *worker.Consumer
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if batch.Sale == broken.Sale() {
			failed.Add(1)
			return nil, fmt.Errorf("%w: it has no row", worker.ErrOfLine)
		}
		went.Add(1)
		if _, stopped := consumer.Paused(); stopped {
			paused.Add(1)
		}
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	consumer = well.consumer(quick(), 2, w, func() []string { return []string{broken.Sale(), well.Sale()} })
	began := time.Now()
	well.run(consumer)
	well.drained()
	confirmedAll(well, order)
	require.EqualValues(t, 90, went.Load())
	require.Zero(t, paused.Load())
	// Pauses between its trials double from 50 ms: seven of them take six seconds.
	require.Less(t, float64(failed.Load()), 8+time.Since(began).Seconds(), "it is tried apart")
	require.Empty(t, broken.Attempts(), "nobody is to blame for it")
}

// A fault is of one line alone while another has just gone well, whoever is to blame.
func TestAFaultOfOneLineIsNoPause(t *testing.T) {
	t.Parallel()
	rdb := testkit.ProductClient(t, testkit.Embedded(t).Addr())
	broken, well := boxOn(t, rdb, "broken", queues.OpenSale()), boxOn(t, rdb, "well", queues.OpenSale())
	var consumer *worker.Consumer
	var failed atomic.Int64
	paused := make(chan bool, 1)
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if batch.Sale == well.Sale() {
			return queues.Outcomes(batch, queue.OpConfirm), nil
		}
		if failed.Add(1) == 2 {
			_, stopped := consumer.Paused()
			paused <- stopped
		}
		return nil, errors.New("somebody holds its rows")
	}}
	// One recorder: it has done with the one before it takes the other.
	consumer = well.consumer(quick(), 1, w, func() []string { return []string{broken.Sale(), well.Sale()} })
	well.run(consumer)
	well.Enqueue(5)
	well.drained()
	broken.Enqueue(5)
	require.False(t, <-paused, "after its first fault")
}

// What has failed everywhere is a store's fault, and says so.
func TestWhatFailsInEveryLineIsAPause(t *testing.T) {
	t.Parallel()
	list, sales := boxes(t, testkit.Embedded(t).Addr(), 5)
	var well atomic.Bool
	well.Store(true)
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if !well.Load() {
			return nil, errors.New("connection refused")
		}
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	consumer := list[0].consumer(quick(), 4, w, sales)
	list[0].run(consumer)
	enqueueEach(list, 3)
	drainedEach(t, list) // each of them has gone well
	well.Store(false)
	order := enqueueEach(list, 3)
	require.Eventually(t, func() bool { _, stopped := consumer.Paused(); return stopped }, soon, time.Millisecond)
	pause, _ := consumer.Paused()
	require.Equal(t, worker.PausedByDatabase, pause.Reason)
	well.Store(true)
	drainedEach(t, list)
	require.Len(t, order, 15)
	require.Eventually(t, func() bool { _, stopped := consumer.Paused(); return !stopped }, soon, time.Millisecond)
}

// What is put right goes well again by itself.
func TestALineThatIsMendedIsDrained(t *testing.T) {
	t.Parallel()
	rdb := testkit.ProductClient(t, testkit.Redis(t).Addr())
	broken, well := boxOn(t, rdb, "broken", queues.OpenSale()), boxOn(t, rdb, "well", queues.OpenSale())
	order := broken.Enqueue(5)
	kept, err := rdb.Dump(broken.Ctx, broken.Key("holders")).Result()
	require.NoError(t, err)
	broken.Overwrite("leased")
	consume(well, wide(), 2, &host{}, func() []string { return []string{broken.Sale(), well.Sale()} })
	well.Enqueue(5)
	well.drained()
	require.NoError(t, rdb.Del(broken.Ctx, broken.Key("leased")).Err())
	require.NotEmpty(t, kept)
	require.Eventually(t, func() bool {
		v, err := broken.View(broken.Ctx)
		return err == nil && v.Waiting == 0 && v.Leased == 0
	}, soon, time.Millisecond)
	_ = order
}

// onCluster is a line on one master of a small cluster.
func onCluster(t *testing.T, rdb redis.UniversalClient, sale string) *box {
	t.Helper()
	b := &box{Bench: queues.On(t, rdb, sale)}
	b.Load(queues.OpenSale())
	return b
}

// clusterWait is how long whoever asks a server that hangs waits for it.
const clusterWait = 5 * time.Second

// The lines on a master that is gone, or hangs, keep nothing from the others: not the sweep that finds what nobody
// announced, nor a worker, nor the news.
func TestAMasterThatIsGoneKeepsNothingFromTheOthers(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(c *testkit.SmallCluster){
		"killed": func(c *testkit.SmallCluster) { c.Nodes[1].Kill() },
		"hung":   func(c *testkit.SmallCluster) { c.Hang(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testkit.NewSmallCluster(t)
			rdb := c.Client(clusterWait)
			well := onCluster(t, rdb, queues.SaleOn(c, 0))
			names := []string{well.Sale()}
			var lost []*box
			for i := range 10 {
				sale := c.On(1, fmt.Sprint("lost-", i), func(sale string) string { return "{" + sale + "/0}" })
				lost = append(lost, onCluster(t, rdb, sale))
				names = append(names, sale)
			}
			h := &host{}
			consumer := well.consumer(wide(), 2, h, func() []string { return names })
			news := make(chan queue.Event, 1000)
			ctx, stop := context.WithCancel(t.Context())
			heard := make(chan struct{})
			go func() {
				defer close(heard)
				well.Lines.Listen(ctx, func(n queue.Event) { news <- n })
			}()
			t.Cleanup(func() { stop(); <-heard })
			well.run(consumer)
			enqueueEach(lost, 3)
			well.Enqueue(1)
			require.Eventually(t, func() bool { v, err := well.View(well.Ctx); return err == nil && !v.InFlight() },
				soon, time.Millisecond)
			lose(c)
			drain := func() {
				order := well.Enqueue(4)
				require.Eventually(t, func() bool {
					v, err := well.View(well.Ctx)
					return err == nil && !v.InFlight()
				}, 60*time.Second, time.Millisecond)
				known, _, err := well.Lookup(well.Ctx, order)
				require.NoError(t, err)
				for _, id := range order {
					require.Equal(t, queue.Confirmed, known[id].State)
				}
			}
			drain() // whoever was asking the server waits for it once
			const rounds = 8
			began := time.Now()
			for range rounds {
				drain()
			}
			require.Less(t, time.Since(began), rounds*clusterWait, "and not in each round")
			// News is a hint: whoever was just leaving the server that is gone may miss some.
			mine := map[string]bool{}
			require.Eventually(t, func() bool {
				for _, id := range well.Enqueue(1) {
					mine[id] = true
				}
				for {
					select {
					case n := <-news:
						if mine[n.OrderID] {
							return true
						}
					default:
						return false
					}
				}
			}, 60*time.Second, 100*time.Millisecond, "news is heard")
			_, paused := consumer.Paused()
			require.False(t, paused)
		})
	}
}
