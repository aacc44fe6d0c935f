package delay

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
)

const (
	// claimPause lies between two claims, so that under load one claim takes many messages.
	claimPause = 5 * time.Millisecond
	backoffMax = 2 * time.Second
	// claimTimeout bounds a claim. A stop does not interrupt one: its messages would be leased to nobody.
	claimTimeout = 5 * time.Second
	// claimPatience bounds how long a round of claims waits. A slower server goes on while the others begin their next.
	claimPatience = 100 * time.Millisecond
	claimServers  = 16 // of a cluster, asked at a time
)

// DeadReport describes messages of one subscription that became dead letters together.
type DeadReport struct {
	Subscription Subscription
	Count        int64
	ID           string // one of them
	Error        string // of its last attempt
}

// OnDead is called with new dead letters. It must not block.
type OnDead func(ctx context.Context, d DeadReport)

// Dispatcher delivers due messages, each at least once. Any number of dispatchers, in any number of processes, may
// share a Redis. A message belongs to one of them at a time. Another can take it only when its lease has ended.
type Dispatcher struct {
	cfg      Config
	topics   *Topics
	messages *Store
	caller   *caller
	onDead   OnDead
	onFull   OnFull
	log      *slog.Logger
	now      func() time.Time
	metrics  metrics
	pool     *ants.PoolWithFuncGeneric[callJob]
	slots    *slots
	calls    sync.WaitGroup
	results  chan result
	first    atomic.Int64   // index of the subscription with which the next round of claims begins
	backoff  *backoffs      // of subscriptions and servers that failed
	faults   apart.Troubles // the same, for the log
	seen     *snapshot      // whose topics and subscriptions have gauges; used by the maintenance loop only
	blocked  func() error   // returns why nothing may be delivered; nil: delivery is never blocked

	maintenanceFaults apart.Troubles // subscriptions whose maintenance fails, for the log
	fills             fills          // how full they were when they were last counted
}

// callJob is one call to make.
type callJob struct {
	ctx     context.Context
	target  *target
	message delivery
	claimed time.Time
}

// result is the outcome of one call.
type result struct {
	target  *target
	outcome outcome
}

// DispatcherParts is what NewDispatcher needs.
type DispatcherParts struct {
	Config   Config // validated
	Topics   *Topics
	Messages *Store
	OnDead   OnDead
	OnFull   OnFull       // nil: nobody hears of it
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
		onDead: p.OnDead, onFull: p.OnFull,
		log: p.Log, now: p.Now, slots: newSlots(cfg.Workers, cfg.PerTopic), results: make(chan result, cfg.Workers),
		backoff: newBackoffs(p.Now, cfg.Poll, backoffMax), blocked: p.Blocked, seen: newSnapshot(nil, nil),
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

// idle waits for a wake, the time or the end of ctx, whose error it returns.
func idle(ctx context.Context, wake <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-timer.C:
	}
	return ctx.Err()
}

type poolLog struct{ log *slog.Logger }

func (a poolLog) Printf(format string, args ...any) { a.log.Error(fmt.Sprintf(format, args...)) }
