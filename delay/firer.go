package delay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/ants/v2"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
)

const (
	// breath lets due messages gather between two claims, so that a claim under load carries many.
	breath     = 5 * time.Millisecond
	backoffMax = 2 * time.Second
	// claimTimeout bounds a claim, which a stop does not cut off: its messages would be leased to nobody.
	claimTimeout = 5 * time.Second
	// claimPatience is how long a round of claims waits; a server that takes longer has its turn, and the others their next.
	claimPatience = 100 * time.Millisecond
	claimServers  = 16 // of a cluster, asked at a time
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
	first   atomic.Int64    // whose turn it is
	away    *backoffs       // topics and servers that failed
	faults  apart.Troubles  // the same, for the log
	untidy  apart.Troubles  // topics that cannot be looked after
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
		slots: newSlots(cfg.Workers, cfg.PerTopic), results: make(chan result, cfg.Workers), away: newBackoffs(now, cfg.Poll, backoffMax)}
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

// Close lets go of the pool of a firer that was not run. After Run it does nothing.
func (f *Firer) Close() error {
	if f.pool.IsClosed() {
		return nil
	}
	return f.pool.ReleaseTimeout(f.cfg.Grace)
}

// claimAll is the loop that finds what is due. It asks Redis, never its own clock, and sleeps until the first message it knows of,
// at most Config.Poll. The topics of each server have turns of their own: one that hangs holds up no other.
func (f *Firer) claimAll(ctx, work context.Context) {
	rounds := apart.New(claimServers, claimPatience)
	defer rounds.Wait()
	for ctx.Err() == nil {
		next := newSoonest(f.cfg.Poll)
		on := f.box.byServer(ctx, f.open())
		rounds.Round(work, slices.Sorted(maps.Keys(on)), func(work context.Context, server string) error {
			wait, err := f.turn(work, on[server])
			f.complain(ctx, "server "+server, err)
			f.away.note("server "+server, err)
			if err != nil {
				_ = idle(ctx, nil, f.away.left("server "+server)) // its turn is not over: nobody asks it meanwhile
				return nil
			}
			next.take(wait)
			return nil
		}, func(server string, err error) { f.complain(ctx, "server "+server, err) })
		_ = idle(ctx, nil, next.get()) // the loop's condition sees the end
	}
}

// open are the topics that messages are delivered for.
func (f *Firer) open() []Topic {
	if f.barred() {
		return nil
	}
	return slices.DeleteFunc(f.topics.All(), func(t Topic) bool { return !t.On() })
}

// complain logs what is the matter with a topic or a server, once until it is over.
func (f *Firer) complain(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	switch begun, ended := f.faults.Note(what, err); {
	case begun:
		f.log.WarnContext(ctx, "delayed messages not fired, will keep trying", "what", what, "error", err)
	case ended:
		f.log.InfoContext(ctx, "delayed messages are fired again", "what", what)
	}
}

// turn claims for every topic of a server once and returns how long there is nothing to do. Each turn begins with another topic, so
// that none always finds the slots taken. The error is of the server: one topic's fault stops no other.
func (f *Firer) turn(work context.Context, topics []Topic) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(work, claimTimeout)
	defer cancel()
	heads := f.box.heads(ctx, topics)
	wait := f.cfg.Poll
	first, away := int(f.first.Add(1)%int64(len(heads))), 0
	for i := range heads {
		h := heads[(first+i)%len(heads)]
		name := h.topic.Name
		if h.err == nil && f.faults.Any() {
			f.complain(work, "look at "+name, nil)
		}
		switch left := f.away.left(name); {
		case h.err != nil:
			f.complain(work, "look at "+name, h.err)
			away++
		case h.none:
		case left > 0: // its claims fail
		case h.wait > 0:
			wait = min(wait, max(h.wait, breath))
		default:
			wait = min(wait, breath)
			err := apart.Try(func() error { return f.claim(work, h.topic) })
			f.complain(work, name, err)
			f.away.note(name, err)
		}
	}
	if away == len(heads) {
		return 0, heads[0].err
	}
	return wait, nil
}

// soonest is the shortest of some waits. Safe for concurrent use.
type soonest struct{ ns atomic.Int64 }

func newSoonest(most time.Duration) *soonest {
	s := &soonest{}
	s.ns.Store(int64(most))
	return s
}

func (s *soonest) take(wait time.Duration) {
	for {
		known := s.ns.Load()
		if int64(wait) >= known || s.ns.CompareAndSwap(known, int64(wait)) {
			return
		}
	}
}

func (s *soonest) get() time.Duration { return time.Duration(s.ns.Load()) }

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
