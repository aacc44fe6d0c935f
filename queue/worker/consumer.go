// Package worker drains lines through an ants pool. It knows tickets, not orders:
// what a ticket becomes is decided by the Handler it is given.
//
// A worker claims a batch, gives it to the handler and settles it with the outcomes. All of it is
// within the batch's lease. Nothing waits in memory between.
package worker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/ants/v2"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/apart"
	"sluice/queue"
)

// Handler turns tickets into orders. Its methods are called by many goroutines, each with tickets
// of its own. They must return before the context's deadline, which lies within the lease.
type Handler interface {
	// Handle answers every ticket of the batch with an outcome. An error means
	// that something all tickets need was not available. It is nobody's fault:
	// the batch goes back as it was and the consumer pauses.
	Handle(ctx context.Context, b queue.Batch) ([]queue.Outcome, error)
	// Bury answers tickets that have failed too often. Their orders are
	// recorded as failed, unless they exist after all.
	Bury(ctx context.Context, b queue.Batch, reason string) ([]queue.Outcome, error)
}

// Options are what a consumer works with.
type Options struct {
	Config  queue.Config
	Pool    PoolConfig
	Lines   *queue.Lines
	Sales   func() []string // whose lines are drained
	Handler Handler         // if it is a MultiSaleHandler, it gets batches over several sales

	OneWriter bool         // the handler's database has a single writer
	Bar       func() error // why nothing may be drained now; nil: nothing ever keeps it

	Log     *slog.Logger
	Now     func() time.Time
	Metrics prometheus.Registerer
}

// Consumer drains lines. The size of its pool bounds how many batches run. A worker is free before
// it claims, so no ticket waits in memory for one.
type Consumer struct {
	cfg      queue.Config
	lines    *queue.Lines
	sales    func() []string
	handler  Handler
	multi    MultiSaleHandler // nil: the handler takes one line at a time
	log      *slog.Logger
	now      func() time.Time
	metrics  *consumerMetrics
	pool     *ants.PoolWithFuncGeneric[job]
	runnable *runnableSet
	backoff  *backoff // of a process that must not drain
	pauses   *pauses
	common   *commonFault
	others   atomic.Int64 // claims while every ticket fails alike
	swept    apart.Troubles
	failing  apart.Troubles // lines and servers in doubt
	drained  *witness       // lines whose batches went through
	reached  *witness       // servers that answered
	late     lateSettles
	tuning   *tuning
	sizer    *sizer
	limiter  *limiter
	stop     chan struct{}
	once     sync.Once
}

// New returns a consumer. Call Run once, or Close.
func New(o Options) (*Consumer, error) {
	c := &Consumer{
		cfg: o.Config, lines: o.Lines, sales: o.Sales, handler: o.Handler, log: o.Log, now: o.Now,
		runnable: newRunnableSet(newDoubts(o.Now, o.Pool.Size, o.Lines.Server)), backoff: newBackoff(o.Now),
		pauses: newPauses(o.Now), common: newCommonFault(o.Now),
		tuning: newTuning(o.Config, o.Bar), sizer: newSizer(o.Config.Lease, o.OneWriter), limiter: newLimiter(),
		drained: newWitness(o.Now), reached: newWitness(o.Now), late: newLateSettles(), stop: make(chan struct{}),
	}
	c.multi, _ = o.Handler.(MultiSaleHandler)
	pool, err := ants.NewPoolWithFuncGeneric(o.Pool.Size, c.work, ants.WithLogger(poolLog{o.Log}))
	if err != nil {
		return nil, fmt.Errorf("open the worker pool of %d: %w", o.Pool.Size, err)
	}
	c.pool = pool
	c.metrics = newConsumerMetrics(o.Metrics, pool, c)
	return c, nil
}

// Run drains until ctx ends, then lets running batches finish and returns.
// Nothing stays leased unless a batch outlives its own deadline.
func (c *Consumer) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { c.lines.ListenWake(ctx, c.runnable.add) })
	loops.Go(func() { c.sweep(ctx) })
	c.dispatch(ctx)
	c.once.Do(func() { close(c.stop) })
	loops.Wait()
	err := c.pool.ReleaseTimeout(c.cfg.Lease)
	c.late.wait()
	if err != nil {
		return fmt.Errorf("stop the worker pool: %w: its batches are taken over when their lease ends", err)
	}
	return nil
}

// Close lets go of the pool of a consumer that was not run. After Run it does nothing.
func (c *Consumer) Close() error {
	if c.pool.IsClosed() {
		return nil
	}
	return c.pool.ReleaseTimeout(c.cfg.Lease)
}

// dispatch gives jobs to workers, one job for a line at a time. So a hot sale does not starve the
// others.
func (c *Consumer) dispatch(ctx context.Context) {
	for {
		next, err := c.runnable.next(ctx, c.multiSize)
		if err != nil || c.backoff.wait(ctx) != nil {
			return
		}
		if err := c.pool.Invoke(next); err != nil {
			return
		}
	}
}

func (c *Consumer) stopping() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// work runs one job in a worker of the pool.
func (c *Consumer) work(j job) {
	defer c.runnable.done(j)
	if c.stopping() {
		return
	}
	// The dispatcher may have waited for this worker since before draining was barred.
	if c.backoff.remaining() > 0 {
		for _, sale := range j.sales {
			c.runnable.add(sale)
		}
		return
	}
	sales := c.runnable.undoubted(j)
	switch len(sales) {
	case 0:
		return
	case 1:
	default:
		c.workMulti(sales)
		return
	}
	most := c.sizer.batches
	if j.multi || j.trial != "" {
		most = 1 // as in a batch over several sales
	}
	c.workLine(sales[0], most)
}

// poolLog passes on what the pool says.
type poolLog struct{ log *slog.Logger }

// Printf implements ants.Logger.
func (p poolLog) Printf(format string, args ...any) { p.log.Error(fmt.Sprintf(format, args...)) }
