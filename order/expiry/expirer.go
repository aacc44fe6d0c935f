package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/apart"
	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

const (
	expireEvery = 200 * time.Millisecond // how often each line is asked for what is overdue
	expireBatch = 500                    // orders ended in one transaction
	expireLease = 5 * time.Second        // after which another expirer takes over what was handed out
	expireWait  = 15 * time.Second       // for one batch, all stores together
	expireSweep = 15 * time.Second       // how often the database is asked for what Redis forgot
	expireGrace = 2 * expireLease        // how overdue an order is before the sweep takes it
	sweepPages  = 20                     // looks of one sweep at the database
	// expirePatience is how long a round waits: who takes longer goes on, and the others have their next turn.
	expirePatience = 500 * time.Millisecond
	expireAtOnce   = 8  // sales that are served at a time
	expireServers  = 16 // servers of a cluster that are asked at a time
)

// Expirer ends the orders that were not paid in time: their units return to
// both stores and their users' slots are free. Each line knows its deadlines,
// so nothing scans tables; any number of expirers may run.
type Expirer struct {
	db         *store.DB
	lines      *queue.Lines
	reconciler *inventory.Reconciler
	sales      func() []string
	channels   []string
	onCommit   func()
	log        *slog.Logger
	now        func() time.Time
	metrics    *expirerMetrics
	faults     apart.Troubles // sales, and servers, that cannot be served
}

// ExpirerParts are what an Expirer works with.
type ExpirerParts struct {
	DB         *store.DB
	Lines      *queue.Lines
	Reconciler *inventory.Reconciler // brings the units back into the line
	Active     func() []string       // the sales whose orders expire
	Channels   []string              // each order's news goes to the outbox for each of them
	OnCommit   func()                // called after each commit
	Log        *slog.Logger
	Now        func() time.Time // Redis' clock
	Metrics    prometheus.Registerer
}

// NewExpirer returns an expirer.
func NewExpirer(p ExpirerParts) *Expirer {
	return &Expirer{db: p.DB, lines: p.Lines, reconciler: p.Reconciler, sales: p.Active, channels: p.Channels,
		onCommit: p.OnCommit, log: p.Log, now: p.Now, metrics: newExpirerMetrics(p.Metrics)}
}

// Run expires until ctx ends; a batch that has begun is finished.
func (e *Expirer) Run(ctx context.Context) {
	by := expiringFor(expirePatience)
	defer by.wait()
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	swept := e.now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if now := e.now(); now.Sub(swept) >= expireSweep || now.Before(swept) {
			swept = now
			by.sweeps.Round(ctx, []string{"database"}, func(ctx context.Context, _ string) error {
				err := e.sweep(ctx, by.sales)
				e.well("database", err)
				return err
			}, func(_ string, err error) { e.complain(ctx, "database", err) })
		}
		_ = e.round(ctx, by) // it has logged what failed
	}
}

// expiring gives turns: to servers, for a question about all of their lines, to
// the sales that have something overdue, and to the sweep of the database.
type expiring struct{ servers, sales, sweeps *apart.Rounds }

func expiringFor(patience time.Duration) expiring {
	return expiring{servers: apart.New(expireServers, patience), sales: apart.New(expireAtOnce, patience),
		sweeps: apart.New(1, patience)}
}

func (b expiring) wait() {
	b.sweeps.Wait()
	b.servers.Wait() // they give turns to sales
	b.sales.Wait()
}

// Expire ends what is overdue now, by the deadlines in Redis: the lines of each
// server are asked at once, as often as one of them has more. After a fault
// what was handed out comes back with its lease.
func (e *Expirer) Expire(ctx context.Context) error { return e.round(ctx, expiringFor(0)) }

// round is Expire with turns: what fails or hangs holds up nothing else.
func (e *Expirer) round(ctx context.Context, by expiring) error {
	var mu sync.Mutex
	var failed []error
	fail := func(what string, err error) {
		e.complain(ctx, what, err)
		mu.Lock()
		defer mu.Unlock()
		failed = append(failed, err)
	}
	on := e.lines.ByServer(ctx, e.sales())
	by.servers.Round(ctx, slices.Sorted(maps.Keys(on)), func(ctx context.Context, server string) error {
		err := e.expireOn(ctx, on[server], by.sales, fail)
		e.well("server "+server, err)
		return err
	}, func(server string, err error) { fail("server "+server, err) })
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(append(failed, ctx.Err())...)
}

// complain logs a fault of a sale, a server or the database, once until it is over.
func (e *Expirer) complain(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	if begun, _ := e.faults.Note(what, err); begun {
		e.log.Warn("overdue orders are not expired", "what", what, "error", err)
	}
}

// well ends a complaint, unless err says that its cause stands.
func (e *Expirer) well(what string, err error) {
	if err == nil && e.faults.Any() {
		e.faults.Note(what, nil)
	}
}

// expireOn asks the lines of one server, and gives a turn to each sale that has
// something overdue, as often as one of them has more.
func (e *Expirer) expireOn(ctx context.Context, sales []string, turns *apart.Rounds, fail func(string, error)) error {
	var away error
	for len(sales) > 0 && ctx.Err() == nil && away == nil {
		var found map[string]queue.Overdue
		found, away = e.overdue(ctx, sales, fail)
		var mu sync.Mutex
		more := map[string]bool{}
		turns.Round(ctx, slices.Sorted(maps.Keys(found)), func(ctx context.Context, sale string) error {
			if err := e.batch(ctx, sale, found[sale]); err != nil {
				return fmt.Errorf("expire orders of %s: %w", sale, err)
			}
			e.well(sale, nil)
			mu.Lock()
			defer mu.Unlock()
			more[sale] = len(found[sale].IDs) == expireBatch
			return nil
		}, fail)
		sales = sales[:0:0]
		mu.Lock()
		for sale, has := range more {
			if has {
				sales = append(sales, sale)
			}
		}
		mu.Unlock()
	}
	return away
}

// overdue asks lines, and returns what those that have something overdue hand
// out. The error is of their server.
func (e *Expirer) overdue(ctx context.Context, sales []string,
	fail func(string, error)) (found map[string]queue.Overdue, away error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), expireWait)
	defer cancel()
	found, failed := e.lines.Overdue(ctx, sales, expireBatch, expireLease)
	for sale, err := range failed {
		if redis.Unavailable(err) {
			away = err
		} else {
			fail(sale, err)
		}
	}
	for sale, o := range found {
		e.metrics.due.WithLabelValues(sale).Set(float64(o.Unpaid))
		if len(o.IDs) == 0 {
			delete(found, sale)
			e.well(sale, nil)
		}
	}
	return found, away
}
