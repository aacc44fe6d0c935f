package notify

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
)

const (
	dbBackoffMin = 100 * time.Millisecond
	dbBackoffMax = 5 * time.Second
	// dbTimeout bounds each visit to the database, so that stopping never waits for a dead one.
	dbTimeout = 5 * time.Second
)

// Relay moves rows from the outbox to their channels, at least once each. Any number of relays, in any number of processes, may
// share an outbox: a row belongs to one of them at a time, and only its lease's end gives it to another.
type Relay struct {
	cfg     Config
	write   *gorm.DB
	read    *gorm.DB
	lanes   []*lane
	log     *slog.Logger
	clock   func() time.Time
	metrics metrics
	died    func(channel string, n int64)
	number  int64 // of this process
}

// NewRelay takes a validated Config and registers its metrics on reg (nil: nowhere). write must be the handle whose
// transactions the rows are inserted with; on MySQL and PostgreSQL those run READ COMMITTED. clock decides what is due.
func NewRelay(cfg Config, write, read *gorm.DB, channels []Channel, log *slog.Logger, clock func() time.Time, reg prometheus.Registerer) *Relay {
	r := &Relay{cfg: cfg, write: write, read: read, log: log, clock: clock, metrics: newMetrics(reg, channels), died: func(string, int64) {}}
	for _, ch := range channels {
		r.lanes = append(r.lanes, newLane(ch, cfg.Batch))
	}
	return r
}

// Numbered names the process by its number, in ToldBy of every row whose delivery this relay ended, well or not. Call it before Run.
func (r *Relay) Numbered(number int64) { r.number = number }

// OnDeath makes the relay call f whenever it gave up on n notifications of a channel. f must not block. Call it before Run.
func (r *Relay) OnDeath(f func(channel string, n int64)) { r.died = f }

func (r *Relay) gaveUp(ctx context.Context, channel string, n int64) {
	r.log.WarnContext(ctx, "notify: notifications given up", "channel", channel, "count", n)
	r.died(channel, n)
}

// Poke makes every channel look for due rows now. It never blocks; call it after a commit that inserted some.
func (r *Relay) Poke() {
	for _, l := range r.lanes {
		select {
		case l.wake <- struct{}{}:
		default: // already going to look
		}
	}
}

// Run relays until ctx ends, then lets deliveries in progress finish within Config.Grace, stores their results, hands back
// what was not sent and returns nil. An unreachable database is waited for, not returned. Call it once.
func (r *Relay) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	for _, l := range r.lanes {
		loops.Go(func() { r.runLane(ctx, l) })
	}
	loops.Go(func() { r.runSweeper(ctx) })
	loops.Go(func() { r.runGauge(ctx) })
	loops.Wait()
	return nil
}

func (r *Relay) runLane(ctx context.Context, l *lane) {
	backoff := time.Duration(0)
	for ctx.Err() == nil {
		var pause time.Duration
		err := apart.Try(func() (err error) {
			if pause = l.pause(); pause == 0 {
				_, err = r.step(ctx, l)
			}
			return err
		})
		switch {
		case pause > 0:
			idle(ctx, nil, pause)
			continue
		case err != nil:
			if ctx.Err() != nil {
				return
			}
			if backoff == 0 {
				r.log.WarnContext(ctx, "notify: nothing is told, will keep trying", "channel", l.channel.Name(), "error", err)
			}
			backoff = min(max(2*backoff, dbBackoffMin), dbBackoffMax)
			idle(ctx, nil, backoff/2+rand.N(backoff/2)) // #nosec G404 -- jitter
			continue
		case backoff > 0:
			r.log.InfoContext(ctx, "notify: news is told again", "channel", l.channel.Name())
			backoff = 0
		}
		if !l.full {
			idle(ctx, nil, rest)
			idle(ctx, l.wake, max(r.cfg.Poll-rest, 0))
		}
	}
}

// step leases one batch, delivers it and stores the results. It returns how many rows were leased.
func (r *Relay) step(ctx context.Context, l *lane) (int, error) {
	b, err := r.lease(ctx, l)
	if err != nil || len(b.rows) == 0 {
		return 0, err
	}
	killpoint.Pass("notify.leased")
	results, cut := r.deliver(ctx, l.channel, b)
	killpoint.Pass("notify.delivered")
	return len(b.rows), r.settle(ctx, l, b, results, cut)
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
