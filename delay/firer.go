package delay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/panjf2000/ants/v2"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/killpoint"
)

const (
	// breath lets due messages gather between two claims, so that a claim under load carries many.
	breath     = 5 * time.Millisecond
	backoffMax = 2 * time.Second
	// claimTimeout bounds a claim, which a stop does not cut off: its messages would be leased to nobody.
	claimTimeout = 5 * time.Second
)

// Death tells of messages of one topic that became dead letters together.
type Death struct {
	Topic Topic
	Count int64
	ID    string // one of them
	Error string // its last one
}

// Alarm hears of dead letters. It must not block.
type Alarm func(ctx context.Context, d Death)

// Firer delivers due messages, each at least once. Any number of firers, in any number of processes, may share a Redis: a message
// belongs to one of them at a time, and only its lease's end gives it to another.
type Firer struct {
	cfg     Config
	topics  *Topics
	box     *Box
	caller  *caller
	alarm   Alarm
	log     *slog.Logger
	now     func() time.Time
	metrics metrics
	pool    *ants.PoolWithFuncGeneric[job]
	slots   *slots
	calls   sync.WaitGroup
	results chan result
	first   int             // whose turn it is; of the claiming loop
	seen    map[string]bool // topics that have gauges; of the housekeeping loop
	bar     func() error    // why nothing may be delivered; nil: nothing keeps it
}

// job is one call to make.
type job struct {
	ctx     context.Context
	target  *target
	message delivery
	claimed time.Time
}

// result is what became of it.
type result struct {
	target  *target
	outcome verdict
}

// NewFirer takes a validated Config and registers its metrics on reg. Call Run once.
func NewFirer(cfg Config, topics *Topics, box *Box, alarm Alarm, log *slog.Logger, now func() time.Time, reg prometheus.Registerer) (*Firer, error) {
	f := &Firer{cfg: cfg, topics: topics, box: box, caller: newCaller(cfg, now), alarm: alarm, log: log, now: now,
		slots: newSlots(cfg.Workers, cfg.PerTopic), results: make(chan result, cfg.Workers)}
	pool, err := ants.NewPoolWithFuncGeneric(cfg.Workers, f.fire, ants.WithLogger(antsLog{log}))
	if err != nil {
		return nil, fmt.Errorf("open the pool of %d callers: %w", cfg.Workers, err)
	}
	f.pool, f.metrics = pool, newMetrics(reg)
	return f, nil
}

// Bar keeps the firer from claiming while why returns an error. Call it before Run.
func (f *Firer) Bar(why func() error) { f.bar = why }

func (f *Firer) barred() bool { return f.bar != nil && f.bar() != nil }

// Run fires until ctx ends, then lets calls in progress finish within Config.Grace, hands back those it had to cut off, and
// returns. An unreachable Redis is waited for.
func (f *Firer) Run(ctx context.Context) error {
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var loops sync.WaitGroup
	loops.Go(func() { f.keep(ctx) })
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		f.settleAll(work)
	}()
	f.claimAll(ctx, work)
	grace := time.AfterFunc(f.cfg.Grace, cut)
	defer grace.Stop()
	f.calls.Wait()
	close(f.results)
	<-settled
	loops.Wait()
	f.caller.client.CloseIdleConnections()
	if err := f.pool.ReleaseTimeout(f.cfg.Grace + time.Second); err != nil {
		return fmt.Errorf("stop the pool of callers: %w", err)
	}
	return nil
}

// claimAll is the loop that finds what is due. It asks Redis, never its own clock, and sleeps until the first message it knows of,
// at most Config.Poll.
func (f *Firer) claimAll(ctx, work context.Context) {
	backoff := time.Duration(0)
	for ctx.Err() == nil {
		wait, err := f.turn(work)
		switch {
		case err != nil:
			if backoff == 0 {
				f.log.WarnContext(ctx, "delayed messages not fired, will keep trying", "error", err)
			}
			backoff = min(max(2*backoff, f.cfg.Poll), backoffMax)
			wait = backoff
		case backoff > 0:
			f.log.InfoContext(ctx, "delayed messages are fired again")
			backoff = 0
		}
		_ = idle(ctx, nil, wait) // the loop's condition sees the end
	}
}

// turn claims for every topic once and returns how long there is nothing to do. Each turn begins with another topic, so that none
// always finds the slots taken.
func (f *Firer) turn(work context.Context) (time.Duration, error) {
	var on []Topic
	for _, t := range f.topics.All() {
		if t.On() {
			on = append(on, t)
		}
	}
	if len(on) == 0 || f.barred() {
		return f.cfg.Poll, nil
	}
	ctx, cancel := context.WithTimeout(work, claimTimeout)
	defer cancel()
	heads, err := f.box.heads(ctx, on)
	if err != nil {
		return 0, err
	}
	wait := f.cfg.Poll
	var errs []error
	f.first++
	for i := range heads {
		h := heads[(f.first+i)%len(heads)]
		switch {
		case h.none:
		case h.wait > 0:
			wait = min(wait, max(h.wait, breath))
		default:
			wait = min(wait, breath)
			errs = append(errs, f.claim(work, h.topic)) // one topic's fault stops no other
		}
	}
	return wait, errors.Join(errs...)
}

// claim takes slots, then as many due messages of the topic, and gives each to a worker at once.
func (f *Firer) claim(work context.Context, t Topic) error {
	room := f.slots.take(t.Name, f.cfg.Batch)
	if room == 0 {
		return nil
	}
	used := 0
	defer func() { f.slots.give(t.Name, room-used) }()
	aim, err := newTarget(t, f.now())
	if err != nil {
		return fmt.Errorf("topic %s: %w", t.Name, err)
	}
	ctx, cancel := context.WithTimeout(work, claimTimeout)
	defer cancel()
	killpoint.Pass("delay.claim")
	messages, err := f.box.claim(ctx, t.Name, room)
	if err != nil {
		return err
	}
	killpoint.Pass("delay.claimed")
	at := f.now()
	for _, m := range messages {
		f.calls.Add(1)
		if err := f.pool.Invoke(job{work, aim, m, at}); err != nil {
			f.calls.Done()
			return fmt.Errorf("no worker for a message of topic %s: %w", t.Name, err)
		}
		used++
	}
	return nil
}

var errPanicked = errors.New("the call panicked")

// fire is one turn of a pool worker: one call. The channel has room for every slot, so it never waits.
func (f *Firer) fire(j job) {
	defer f.calls.Done()
	outcome := f.caller.failed(j.target, j.message, 0, errPanicked) // should it panic, which the pool logs
	defer func() { f.results <- result{j.target, outcome} }()
	if j.message.Attempt == 1 {
		f.metrics.lateness.Observe((j.message.lateness + f.now().Sub(j.claimed)).Seconds())
	}
	killpoint.Pass("delay.call")
	outcome = f.caller.deliver(j.ctx, j.target, j.message)
	killpoint.Pass("delay.called")
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

type antsLog struct{ log *slog.Logger }

func (a antsLog) Printf(format string, args ...any) { a.log.Error(fmt.Sprintf(format, args...)) }
