// Package push calls the receivers of subscriptions with their messages.
//
// A dispatcher claims what is due, calls over HTTP and settles, each message at least once. It also looks after what
// dispatchers that died have left, and counts what subscriptions hold, pulled from or not.
package push

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/ants/v2"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/apart"
)

// backoffMax is the longest pause of a subscription or server that fails.
const backoffMax = 2 * time.Second

// Dispatcher delivers due messages, each at least once. Any number of dispatchers, in any number of processes, may
// share a Redis. A message belongs to one of them at a time. Another can take it only when its lease has ended.
type Dispatcher struct {
	cfg      delay.Config
	topics   *delay.Topics
	messages *message.Store
	caller   *caller
	onDead   message.OnDead
	onFull   OnFull
	onDown   OnDown
	log      *slog.Logger
	now      func() time.Time
	metrics  metrics
	pool     *ants.PoolWithFuncGeneric[callJob]
	slots    *slots

	channels  map[string]Channel // by topic
	receivers *receivers
	watch     *watch
	calls     sync.WaitGroup
	results   chan result
	first     atomic.Int64    // index of the subscription with which the next round of claims begins
	pauses    *apart.Pauses   // of subscriptions and servers that failed
	faults    apart.Troubles  // the same, for the log
	seen      *delay.Snapshot // whose topics and subscriptions have gauges; used by the maintenance loop only
	blocked   func() error    // returns why nothing may be delivered; nil: delivery is never blocked

	maintenanceFaults apart.Troubles // subscriptions whose maintenance fails, for the log
	fills             fills          // how full they were when they were last counted
}

// callJob is one call to make.
type callJob struct {
	ctx     context.Context
	target  *target
	message message.Claimed
	claimed time.Time
}

// result is the outcome of one call.
type result struct {
	target  *target
	outcome message.Outcome
}

// DispatcherParts is what NewDispatcher needs.
type DispatcherParts struct {
	Config   delay.Config // validated
	Topics   *delay.Topics
	Messages *message.Store
	Channels map[string]Channel // by topic: they send its messages; nil: none
	OnDead   message.OnDead
	OnFull   OnFull       // nil: nobody hears of it
	OnDown   OnDown       // nil: nobody hears of it
	Blocked  func() error // while it returns an error, nothing is claimed; nil: never blocked
	Log      *slog.Logger
	Now      func() time.Time
	Registry prometheus.Registerer
}

// NewDispatcher returns a dispatcher and registers its metrics. Call Run once.
func NewDispatcher(p DispatcherParts) (*Dispatcher, error) {
	cfg := p.Config
	d := &Dispatcher{
		cfg: cfg, topics: p.Topics, messages: p.Messages, caller: newCaller(cfg, p.Now),
		onDead: p.OnDead, onFull: p.OnFull, onDown: p.OnDown,
		log: p.Log, now: p.Now, slots: newSlots(cfg.Workers, cfg.PerTopic), results: make(chan result, cfg.Workers),
		channels:  p.Channels,
		receivers: newReceivers(cfg, p.Now), watch: newWatch(time.Now),
		pauses: apart.NewPauses(p.Now, cfg.Poll, backoffMax), blocked: p.Blocked, seen: p.Topics.Snapshot(),
	}
	pool, err := ants.NewPoolWithFuncGeneric(cfg.Workers, d.call, ants.WithLogger(poolLog{p.Log}))
	if err != nil {
		return nil, fmt.Errorf("open the pool of %d callers: %w", cfg.Workers, err)
	}
	d.pool, d.metrics = pool, newMetrics(p.Registry)
	return d, nil
}

func (d *Dispatcher) isBlocked() bool { return d.blocked != nil && d.blocked() != nil }

// Run delivers until ctx ends. Then it lets calls in progress finish within Config.Grace and hands back the messages of
// the others. It waits for an unreachable Redis.
func (d *Dispatcher) Run(ctx context.Context) error {
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var loops sync.WaitGroup
	loops.Go(func() { d.maintain(ctx) })
	loops.Go(func() { d.messages.Listen(ctx, d.watch.added) })
	stored := make(chan struct{})
	go func() {
		defer close(stored)
		d.storeAll(work)
	}()
	d.claimAll(ctx, work)
	grace := time.AfterFunc(d.cfg.Grace, cut)
	defer grace.Stop()
	d.calls.Wait()
	close(d.results)
	<-stored
	loops.Wait()
	d.caller.client.CloseIdleConnections()
	if err := d.pool.ReleaseTimeout(d.cfg.Grace + time.Second); err != nil {
		return fmt.Errorf("stop the pool of callers: %w", err)
	}
	return nil
}

// Close ends the pool of a dispatcher that was not run. After Run it does nothing.
func (d *Dispatcher) Close() error {
	if d.pool.IsClosed() {
		return nil
	}
	return d.pool.ReleaseTimeout(d.cfg.Grace)
}

// idle waits for the time or the end of ctx.
func idle(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

type poolLog struct{ log *slog.Logger }

func (a poolLog) Printf(format string, args ...any) { a.log.Error(fmt.Sprintf(format, args...)) }
