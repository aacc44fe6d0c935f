// Package relay brings rows of the outbox to their channels, at least once each and in their order.
//
// Each channel has a loop of its own that leases due rows, delivers them and stores the results. Any number of
// processes may do so at a time. It knows no channel.
package relay

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
	"sluice/notify"
)

const (
	dbBackoffMin = 100 * time.Millisecond
	dbBackoffMax = 5 * time.Second
	// dbTimeout bounds each call of the database, so that stopping never waits for a dead one.
	dbTimeout = 5 * time.Second
)

// Relay moves rows from the outbox to their channels, at least once each. Any number of relays, in any number of
// processes, may share an outbox. A row belongs to one of them at a time. Another can take it only when its lease has
// ended.
type Relay struct {
	cfg        notify.Config
	write      *gorm.DB
	read       *gorm.DB
	loops      []*channelLoop
	log        *slog.Logger
	clock      func() time.Time
	metrics    metrics
	onDead     func(channel string, n int64)
	instanceID int64
	shared     *sharedClock         // nil: clock alone counts
	offLogged  map[string]time.Time // when the log last named a channel that is off
}

// Parts is what New needs.
type Parts struct {
	Config notify.Config // validated
	// Write is the handle whose transactions the rows are inserted with. On MySQL and PostgreSQL those run READ
	// COMMITTED.
	Write, Read *gorm.DB
	Channels    []notify.Channel
	Log         *slog.Logger
	Clock       func() time.Time // decides what is due
	// Time asks the clock that all relays of an outbox share. Clock is corrected by it. Nil: Clock is that clock.
	Time       func(context.Context) (time.Time, error)
	Registry   prometheus.Registerer // nil: metrics are registered nowhere
	InstanceID int64                 // of this process; becomes DeliveredBy of the rows that this relay delivers
	// OnDead is called whenever the relay gives up on n notifications of a channel. It must not block. It may be nil.
	OnDead func(channel string, n int64)
}

// New returns a relay that does nothing before Run.
func New(p Parts) *Relay {
	r := &Relay{cfg: p.Config, write: p.Write, read: p.Read, log: p.Log, clock: p.Clock, onDead: p.OnDead,
		metrics: newMetrics(p.Registry, p.Channels), instanceID: p.InstanceID, offLogged: map[string]time.Time{}}
	if p.Time != nil {
		r.shared = newSharedClock(p.Clock, p.Time)
		r.clock = r.shared.now
	}
	if r.onDead == nil {
		r.onDead = func(string, int64) {}
	}
	for _, ch := range p.Channels {
		r.loops = append(r.loops, newChannelLoop(ch, p.Config.Batch))
	}
	return r
}

// reportDead logs and reports notifications that were given up.
func (r *Relay) reportDead(ctx context.Context, channel string, n int64) {
	r.log.WarnContext(ctx, "notify: notifications given up", "channel", channel, "count", n)
	r.onDead(channel, n)
}

// Wake makes every channel look for due rows now. It never blocks; call it after a commit that inserted some.
func (r *Relay) Wake() {
	for _, l := range r.loops {
		select {
		case l.wake <- struct{}{}:
		default: // the loop will look anyway
		}
	}
}

// Run relays until ctx ends. Then it lets deliveries in progress finish within Config.Grace, stores their results and
// hands back what was not sent. It waits for an unreachable database and returns nil. Call it once.
func (r *Relay) Run(ctx context.Context) error {
	var running sync.WaitGroup
	if r.shared != nil {
		running.Go(func() { r.shared.follow(ctx) })
	}
	for _, l := range r.loops {
		running.Go(func() { r.runChannel(ctx, l) })
	}
	running.Go(func() { r.runSweeper(ctx) })
	running.Go(func() { r.runGauge(ctx) })
	running.Wait()
	return nil
}

// runChannel delivers what is due in one channel, and backs off while the database fails.
func (r *Relay) runChannel(ctx context.Context, l *channelLoop) {
	if r.shared != nil {
		select { // a lease by the wrong clock would be no lease to others
		case <-r.shared.known:
		case <-ctx.Done():
		}
	}
	if f := newFlow(l); f != nil {
		r.runFlow(ctx, l, f)
		return
	}
	for ctx.Err() == nil {
		var pause time.Duration
		err := apart.Try(func() (err error) {
			if pause = l.pause(); pause == 0 {
				_, err = r.step(ctx, l)
			}
			return err
		})
		if pause == 0 {
			pause = r.failedFor(ctx, l, err)
		}
		if pause > 0 {
			idle(ctx, nil, pause)
			continue
		}
		if !l.more {
			idle(ctx, nil, gatherPause)
			idle(ctx, l.wake, max(r.cfg.Poll-gatherPause, 0))
		}
	}
}

// failedFor says how long to leave the database alone after a step. It is 0 when that went well. It logs when failing
// begins and ends.
func (r *Relay) failedFor(ctx context.Context, l *channelLoop, err error) time.Duration {
	switch {
	case err != nil && ctx.Err() == nil:
		if l.backoff == 0 {
			r.log.WarnContext(ctx, "notify: nothing is delivered, will keep trying",
				"channel", l.channel.Name(), "error", err)
		}
		l.backoff = min(max(2*l.backoff, dbBackoffMin), dbBackoffMax)
		return l.backoff/2 + rand.N(l.backoff/2) // #nosec G404 -- jitter
	case err == nil && l.backoff > 0:
		r.log.InfoContext(ctx, "notify: notifications are delivered again", "channel", l.channel.Name())
		l.backoff = 0
	}
	return 0
}

// step leases one batch, delivers it and stores the results. It returns how many rows were leased.
func (r *Relay) step(ctx context.Context, l *channelLoop) (int, error) {
	b, err := r.lease(ctx, l)
	if err != nil || len(b.rows) == 0 {
		return 0, err
	}
	killpoint.Pass("notify.leased")
	results, cut := r.deliver(ctx, l.channel, b)
	killpoint.Pass("notify.delivered")
	return len(b.rows), r.storeResults(ctx, l, b, results, cut)
}

// idle waits for a wake, the time or the end of ctx, whichever is first.
func idle(ctx context.Context, wake <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-timer.C:
	}
}

// retryWait returns the time from the end of an attempt to the next: 1, 3, 5, … units. The first delivery is attempt 1.
func retryWait(cfg notify.Config, attempt int) time.Duration {
	return time.Duration(2*attempt-1) * cfg.RetryUnit
}
