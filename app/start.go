package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sluice/gateway"
	"sluice/gateway/admission"
	"sluice/queue/worker"
)

// Errors of Start.
var (
	ErrStarted = errors.New("the process has been started already")
	ErrStopped = errors.New("the process has been stopped")
)

// Start runs the loops and serves. When it returns nil the process serves. After an error the process is stopped. A
// Stop meanwhile makes Start give up. Call it once; later calls change nothing and return ErrStarted or ErrStopped.
func (a *App) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.alive, cancel)()
	begun, err := a.begin(ctx)
	if err != nil && begun {
		return errors.Join(err, a.Stop(context.WithoutCancel(ctx)))
	}
	return err
}

// begin runs the start while it has the lock that Stop waits for.
func (a *App) begin(ctx context.Context) (begun bool, err error) {
	a.life.Lock()
	defer a.life.Unlock()
	switch {
	case a.stopping.Load():
		return false, ErrStopped
	case a.begun:
		return false, ErrStarted
	}
	a.begun = true
	if err := a.run(ctx); err != nil {
		return true, err
	}
	if a.stopping.Load() {
		return false, ErrStopped // Stop waits for the lock
	}
	return true, nil
}

// run starts the loops against the flow of an order, so that each finds the next already running.
func (a *App) run(ctx context.Context) error {
	a.serve("operations server", a.private, a.server(a.ops, a.privateTLS, nil, "ops"), nil)
	if err := a.saleCache.Refresh(ctx); err != nil {
		return err
	}
	if err := a.readClock(ctx); err != nil {
		a.log.Warn("redis' clock is not known yet", "error", err)
	}
	if err := a.learnOverrides(ctx); err != nil {
		a.log.Error("nothing is admitted or drained yet: what operators have stopped is not known", "error", err)
	} else if err := a.reconciler.Reconcile(ctx); err != nil {
		// Another instance may be rebuilding them, or Redis may be away. The gateway answers 503 until then.
		a.log.Warn("lines not yet ready", "error", err)
	}
	a.loop("fleet", a.guard.Run)
	a.loop("configuration", a.follow)
	a.loop("instances", func(ctx context.Context) { a.beats.Run(ctx, a.describeSelf) })
	a.loop("unattended", a.watchUnattended)
	a.loop("durability", a.durability.Run)
	a.loop("keeper", a.whileAllowed("keeper", a.reconciler.Run))
	a.loop("book", a.refreshSales)
	a.loop("gauges", a.whileAllowed("gauges", a.gauges.Run))
	a.loop("series", func(ctx context.Context) {
		admission.ForgetSeries(ctx, a.saleCache, worker.FinishedCounter(a.opt.Registry))
	})
	a.loop("stores of delayed messages", a.delayStores.Run)
	a.loop("topics", a.topics.Run)
	if a.alerts() { // readers of its listener may give up messages
		a.loop("alerts", a.channels.Alerts.Run)
	}
	if a.opt.Roles.Notifier {
		a.loop("relay", a.whileAllowed("relay", func(ctx context.Context) {
			_ = a.relay.Run(ctx) // it returns no error
		}))
		a.task("delayed messages", a.dispatcher.Run)
	}
	if a.opt.Roles.Worker {
		a.task("consumer", a.consumer.Run)
		a.onStop("volatile lines", a.drainVolatile)
		if a.expirer != nil {
			a.loop("expirer", a.whileAllowed("expirer", a.expirer.Run))
		}
	}
	if a.opt.Roles.Gateway {
		a.limiter.Renew(ctx)
		a.loop("limits", a.limiter.Run)
		a.loop("news", a.gateway.Run)
		if a.work != nil {
			a.serveWork()
		}
		srv := a.server(a.gateway.Handler(), a.publicTLS, gateway.PlainRequest, "gateway")
		a.serve("public server", a.public, srv, a.gateway.Drain)
	}
	a.running = true
	a.log.Info("sluice is running", "version", a.opt.Version, "http", a.Addr(), "ops", a.OpsAddr(),
		"work", a.WorkAddr(), "redis", a.redis.Mode, "durability", a.redis.Durability,
		"database", a.cfg.Database.Driver)
	return nil
}

// Stop undoes Start and New, and may be called at any time, any number of
// times. It runs along the way of an order:
//
//	refuse new orders and answer the accepted ones → close the public server → end
//	the waits of other systems and close theirs →
//	drain lines that would die with this process → finish the batches that run →
//	stop notifying → stop the reconciler, the sale cache and the gauges → close the
//	operations server → close database and Redis.
//
// Steps that have not finished when ctx ends are cut off and named.
func (a *App) Stop(ctx context.Context) error {
	a.once.Do(func() {
		a.stopping.Store(true)
		a.end()
		a.life.Lock()
		defer a.life.Unlock()
		a.linger(ctx)
		var errs []error
		for _, u := range slices.Backward(a.undo) {
			if err := u.stop(ctx); err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", u.name, err))
			}
		}
		a.err = errors.Join(errs...)
	})
	return a.err
}
