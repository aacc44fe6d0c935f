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
	"sluice/store/redis"
	"sluice/store/schema"
)

// enter names this instance and makes sure that it may work on its stores.
func (a *App) enter(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		host = "sluice"
	}
	a.name = host + "-" + uuid.NewString()[:8]
	prefix := a.cfg.Redis.Prefix
	a.beats = fleet.NewInstances(a.redis.Client, prefix, a.part("instances"))
	a.guard = fleet.NewGuard(fleet.Parts{
		DB: a.db, Owner: fleet.NewOwner(a.redis.Client, prefix), Instances: a.beats,
		Self:  schema.Process{Name: a.name, Version: a.opt.Version},
		Where: a.redis.Where, Migrate: a.cfg.Database.Migrate, Adopt: a.opt.AdoptRedis,
		Alone: a.redis.Mode == redis.ModeEmbedded || a.redis.Mode == redis.ModeManaged,
		Log:   a.part("fleet"), Now: a.opt.Now,
	}, a.opt.Registry)
	return a.guard.Enter(ctx)
}

// openLive makes the parts that follow the configuration while it changes.
func (a *App) openLive() {
	loaded := a.opt.Loaded
	if loaded == nil {
		loaded = configs.Fixed(a.cfg)
	}
	a.live = live.New(loaded, a.db, a.part("configs"), a.saleCache.Now, a.opt.Registry)
	a.live.AdoptAfter(a.clock)
	a.limiter = ratelimit.New(a.cfg.Limits, a.opt.Now).Shared(budgets.New(a.redis.Client, a.cfg.Redis.Prefix),
		a.name)
}

// followLive says who follows which hot keys. Every part must exist by now.
func (a *App) followLive() {
	a.live.OnChange(func(cfg configs.Config) {
		a.limiter.Set(cfg.Limits)
		a.channels.SetRates(cfg.Notify)
		a.saleCache.Stop(a.stopped(cfg))
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

// stopped are the lines that are not drained, by sale, "" for all, and until when.
func (a *App) stopped(cfg configs.Config) map[string]time.Time {
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

// Wait returns when ctx ends, or the error of a part that failed; meanwhile
// each signal on hangups reloads.
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

// pace is how fast a sale's line drains.
func (a *App) pace(sale string) inventory.Pace {
	if e, ok := a.saleCache.Get(sale); ok {
		return e.Pace()
	}
	return inventory.Pace{PerSecond: inventory.FirstRate}
}

// self is what this instance says of itself to the others.
func (a *App) self() fleet.Instance {
	version, file := a.live.Version()
	i := fleet.Instance{
		ID: a.name, Roles: a.opt.Roles.names(), Version: a.opt.Version, ConfigVersion: version, ConfigFile: file,
		SchemaOldest: a.guard.Self.Schema.Oldest, SchemaNewest: a.guard.Self.Schema.Newest,
		Payments: a.cfg.Payment.On(), StartedAt: a.started,
	}
	if a.gateway != nil {
		i.Refused = a.gateway.Refused()
	}
	return i
}

// learnEvery is how often a process that starts asks for what it must know first.
const learnEvery = time.Second

// clock returns an error until Redis has told its clock: by a host's own a stop may seem to be over.
func (a *App) clock() error {
	if !a.clocked.Load() {
		return errors.New("redis has not told its clock yet")
	}
	return nil
}

// learn reads what operators have set, once Redis has told its clock.
func (a *App) learn(ctx context.Context) error {
	if err := a.clock(); err != nil {
		return err
	}
	return a.live.Sync(ctx)
}

// follow follows the configuration until ctx ends, once it is known.
func (a *App) follow(ctx context.Context) {
	for a.live.Ready() != nil && a.learn(ctx) != nil {
		if !pause(ctx, learnEvery) {
			return
		}
	}
	a.live.Run(ctx)
}

// recall asks Redis for its clock.
func (a *App) recall(ctx context.Context) error {
	err := a.saleCache.Recall(ctx)
	a.clocked.Store(err == nil)
	return err
}

// read keeps the sale cache until ctx ends: the sales alone until Redis has told its clock.
func (a *App) read(ctx context.Context) {
	for !a.clocked.Load() && a.recall(ctx) != nil {
		_ = a.saleCache.Refresh(ctx) // the next one tells
		if !pause(ctx, learnEvery) {
			return
		}
	}
	a.saleCache.Run(ctx)
}

// pause waits and reports whether ctx has not ended meanwhile.
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

// barred is why this process must not act on orders: nil when nothing keeps it.
func (a *App) barred() error {
	if err := a.guard.Err(); err != nil {
		return err
	}
	return a.live.Ready()
}

// held is barred for who drains.
func (a *App) held() error {
	if err := a.guard.Stale(); err != nil {
		return err
	}
	return a.live.Ready()
}
