// Package expiry ends the orders that were not paid in time.
package expiry

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
	"sluice/inventory/reconcile"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

const (
	every        = 200 * time.Millisecond // how often each line is asked for what is overdue
	batchSize    = 500                    // orders ended in one transaction
	lease        = 5 * time.Second        // after which another expirer takes over what was handed out
	batchTimeout = 15 * time.Second       // for one batch, all stores together
	sweepEvery   = 15 * time.Second       // how often the database is asked for what Redis forgot
	sweepGrace   = 2 * lease              // how overdue an order is before the sweep takes it
	sweepPages   = 20                     // looks of one sweep at the database
	// patience is how long a round waits. Who takes longer goes on, and the others have their next turn.
	patience      = 500 * time.Millisecond
	salesAtOnce   = 8  // sales that are served at a time
	serversAtOnce = 16 // servers of a cluster that are asked at a time
)

// Expirer ends the orders that were not paid in time: their units return to both stores. Each line knows its
// deadlines, so nothing scans tables. Any number of expirers may run.
type Expirer struct {
	db         *store.DB
	lines      *queue.Lines
	reconciler *reconcile.Reconciler
	sales      func() []string
	channels   []string
	onCommit   func()
	log        *slog.Logger
	now        func() time.Time
	metrics    *metrics
	faults     apart.Troubles // sales, and servers, that cannot be served
}

// Parts are what an Expirer works with.
type Parts struct {
	DB         *store.DB
	Lines      *queue.Lines
	Reconciler *reconcile.Reconciler // brings the units back into the line
	Active     func() []string       // the sales whose orders expire
	Channels   []string              // each order's news goes to the outbox for each of them
	OnCommit   func()                // called after each commit
	Log        *slog.Logger
	Now        func() time.Time // Redis' clock
	Metrics    prometheus.Registerer
}

// NewExpirer returns an expirer.
func NewExpirer(p Parts) *Expirer {
	return &Expirer{db: p.DB, lines: p.Lines, reconciler: p.Reconciler, sales: p.Active, channels: p.Channels,
		onCommit: p.OnCommit, log: p.Log, now: p.Now, metrics: newMetrics(p.Metrics)}
}

// Run expires until ctx ends; a batch that has begun is finished.
func (e *Expirer) Run(ctx context.Context) {
	in := newRounds(patience)
	defer in.wait()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	swept := e.now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if now := e.now(); now.Sub(swept) >= sweepEvery || now.Before(swept) {
			swept = now
			in.sweeps.Round(ctx, []string{"database"}, func(ctx context.Context, _ string) error {
				err := e.sweep(ctx, in.sales)
				e.endFault("database", err)
				return err
			}, func(_ string, err error) { e.noteFault(ctx, "database", err) })
		}
		_ = e.expireIn(ctx, in) // it has logged what failed
	}
}

// rounds gives turns to servers, to sales and to the sweep. A server is asked about all of its lines. A sale has a
// turn when something of it is overdue.
type rounds struct{ servers, sales, sweeps *apart.Rounds }

func newRounds(patience time.Duration) rounds {
	return rounds{servers: apart.New(serversAtOnce, patience), sales: apart.New(salesAtOnce, patience),
		sweeps: apart.New(1, patience)}
}

func (r rounds) wait() {
	r.sweeps.Wait()
	r.servers.Wait() // they give turns to sales
	r.sales.Wait()
}

// Expire ends what is overdue now, by the deadlines in Redis. It asks the lines of each server at once, as often as one
// of them has more. After a fault what was handed out comes back with its lease.
func (e *Expirer) Expire(ctx context.Context) error { return e.expireIn(ctx, newRounds(0)) }

// expireIn expires in rounds: what fails or hangs holds up nothing else.
func (e *Expirer) expireIn(ctx context.Context, in rounds) error {
	var mu sync.Mutex
	var failed []error
	fail := func(what string, err error) {
		e.noteFault(ctx, what, err)
		mu.Lock()
		defer mu.Unlock()
		failed = append(failed, err)
	}
	on := e.lines.ByServer(ctx, e.sales())
	in.servers.Round(ctx, slices.Sorted(maps.Keys(on)), func(ctx context.Context, server string) error {
		err := e.expireOn(ctx, on[server], in.sales, fail)
		e.endFault("server "+server, err)
		return err
	}, func(server string, err error) { fail("server "+server, err) })
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(append(failed, ctx.Err())...)
}

// noteFault logs a fault of a sale, a server or the database, once until it is over.
func (e *Expirer) noteFault(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	if begun, _ := e.faults.Note(what, err); begun {
		e.log.Warn("overdue orders are not expired", "what", what, "error", err)
	}
}

// endFault ends a fault of what was served, unless err says that it stands.
func (e *Expirer) endFault(what string, err error) {
	if err == nil && e.faults.Any() {
		e.faults.Note(what, nil)
	}
}

// expireOn asks the lines of one server, and gives a turn to each sale that has something overdue. It goes on while
// one of them has more.
func (e *Expirer) expireOn(ctx context.Context, sales []string, in *apart.Rounds, fail func(string, error)) error {
	var away error
	for len(sales) > 0 && ctx.Err() == nil && away == nil {
		var found map[string]queue.Overdue
		found, away = e.overdue(ctx, sales, fail)
		var mu sync.Mutex
		more := map[string]bool{}
		in.Round(ctx, slices.Sorted(maps.Keys(found)), func(ctx context.Context, sale string) error {
			if err := e.expireBatch(ctx, sale, found[sale]); err != nil {
				return fmt.Errorf("expire orders of %s: %w", sale, err)
			}
			e.endFault(sale, nil)
			mu.Lock()
			defer mu.Unlock()
			more[sale] = len(found[sale].IDs) == batchSize
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

// overdue asks lines, and returns what those that have something overdue hand out. The error is of their server.
func (e *Expirer) overdue(ctx context.Context, sales []string,
	fail func(string, error)) (found map[string]queue.Overdue, away error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTimeout)
	defer cancel()
	found, failed := e.lines.Overdue(ctx, sales, batchSize, lease)
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
			e.endFault(sale, nil)
		}
	}
	return found, away
}
