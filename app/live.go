package app

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/google/uuid"

	"sluice/configs"
	"sluice/fleet"
	"sluice/fleet/budgets"
	"sluice/gateway/ratelimit"
	"sluice/inventory"
	"sluice/settings/live"
	"sluice/store/schema"
)

// join names this instance and checks that it may use its stores.
func (a *App) join(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		host = "sluice"
	}
	a.name = host + "-" + uuid.NewString()[:8]
	prefix := a.cfg.Redis.Prefix
	a.beats = fleet.NewInstances(a.redis.Client, prefix, a.logFor("instances"))
	a.guard = fleet.NewGuard(fleet.Parts{
		DB: a.db, Owner: fleet.NewOwner(a.redis.Client, prefix), Instances: a.beats,
		Self:  schema.Process{Name: a.name, Version: a.opt.Version},
		Where: a.redis.Where, Migrate: a.cfg.Database.Migrate, Adopt: a.opt.AdoptRedis,
		Alone: a.alone(), Log: a.logFor("fleet"), Now: a.opt.Now,
	}, a.opt.Registry)
	return a.guard.Enter(ctx)
}

// openLive creates the parts that follow changes of the configuration.
func (a *App) openLive() {
	loaded := a.opt.Loaded
	if loaded == nil {
		loaded = configs.Fixed(a.cfg)
	}
	a.live = live.New(loaded, a.db, a.logFor("configs"), a.saleCache.Now, a.opt.Registry)
	a.live.AdoptAfter(a.clockReady)
	a.limiter = ratelimit.New(a.cfg.Limits, a.opt.Now).Shared(budgets.New(a.redis.Client, a.cfg.Redis.Prefix),
		a.name)
}

// followLive registers which part follows which hot keys. Every part must exist.
func (a *App) followLive() {
	a.live.OnChange(func(cfg configs.Config) {
		a.limiter.Set(cfg.Limits)
		a.channels.SetRates(cfg.Notify)
		a.saleCache.Stop(a.stoppedLines(cfg))
		a.reconciler.SetCaps(inventory.CapPolicy{Cap: cfg.Queue.Cap, MinCap: cfg.Queue.MinCap,
			MaxWait: cfg.Queue.MaxWait})
		if a.consumer != nil {
			a.consumer.SetBatch(cfg.Queue.Batch)
			a.consumer.SetPool(cfg.Pool.Size)
			a.consumer.Hold(!cfg.Queue.Drain, cfg.Queue.Held)
		}
		if a.gateway != nil {
			a.gateway.SetAdmission(cfg.Gateway.Admission)
		}
		if a.opt.Level != nil {
			a.opt.Level.Set(cfg.Log.SlogLevel())
		}
	})
}

// stoppedLines returns by sale until when its line is not drained; "" stands for all sales.
func (a *App) stoppedLines(cfg configs.Config) map[string]time.Time {
	until := map[string]time.Time{}
	if !cfg.Queue.Drain {
		until[""] = a.live.Until("queue.drain", "")
	}
	for _, sale := range cfg.Queue.Held {
		until[sale] = a.live.Until("queue.held", sale)
	}
	return until
}

// Reload reads the configuration again, as after SIGHUP.
func (a *App) Reload(ctx context.Context) { a.live.Signalled(ctx) }

// Wait waits until ctx ends or a part fails, whose error it returns. Meanwhile each signal on hangups reloads the
// configuration.
func (a *App) Wait(ctx context.Context, hangups <-chan os.Signal) error {
	for {
		select {
		case err := <-a.Failed():
			return err
		case <-hangups:
			a.Reload(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// drainRate returns the drain rate of a sale's line.
func (a *App) drainRate(sale string) inventory.Drain {
	if e, ok := a.saleCache.Get(sale); ok {
		return e.Drain()
	}
	return inventory.Drain{PerSecond: inventory.FirstDrainRate}
}

// describeSelf returns this instance's entry for lists of instances.
func (a *App) describeSelf() fleet.Instance {
	version, file := a.live.Version()
	i := fleet.Instance{
		ID: a.name, Roles: a.opt.Roles.names(), Version: a.opt.Version, ConfigVersion: version, ConfigFile: file,
		SchemaOldest: a.guard.Self.Schema.Oldest, SchemaNewest: a.guard.Self.Schema.Newest,
		Payments: a.cfg.Payment.On(), StartedAt: a.started,
		Sales: a.cfg.Queue.Sales, Topics: a.cfg.Delay.Topics,
	}
	if a.gateway != nil {
		i.Refused = a.gateway.Refused()
	}
	return i
}

// learnEvery is how often a starting process tries to read the overrides.
const learnEvery = time.Second

// clockReady returns an error until Redis' clock was read. By the host's clock a stop could seem to be over.
func (a *App) clockReady() error {
	if !a.clocked.Load() {
		return errors.New("redis has not told its clock yet")
	}
	return nil
}

// learnOverrides reads the overrides, after Redis' clock.
func (a *App) learnOverrides(ctx context.Context) error {
	if err := a.clockReady(); err != nil {
		return err
	}
	return a.live.Sync(ctx)
}

// follow waits until the overrides are read, then follows changes of the configuration until ctx ends.
func (a *App) follow(ctx context.Context) {
	for a.live.Ready() != nil && a.learnOverrides(ctx) != nil {
		if !pause(ctx, learnEvery) {
			return
		}
	}
	a.live.Run(ctx)
}

// readClock reads Redis' clock.
func (a *App) readClock(ctx context.Context) error {
	err := a.saleCache.Recall(ctx)
	a.clocked.Store(err == nil)
	return err
}

// refreshSales refreshes the sale cache until ctx ends. Until Redis' clock was read it refreshes the sales without
// their lines.
func (a *App) refreshSales(ctx context.Context) {
	for !a.clocked.Load() && a.readClock(ctx) != nil {
		_ = a.saleCache.Refresh(ctx) // the next refresh reports a lasting error
		if !pause(ctx, learnEvery) {
			return
		}
	}
	a.saleCache.Run(ctx)
}

// pause waits for d and reports whether ctx has not ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// barred returns why this process must not act on orders, or nil.
func (a *App) barred() error {
	if err := a.guard.Err(); err != nil {
		return err
	}
	return a.live.Ready()
}

// drainBarred returns why this process must not drain lines, or nil.
func (a *App) drainBarred() error {
	if err := a.guard.Stale(); err != nil {
		return err
	}
	return a.live.Ready()
}
