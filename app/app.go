// Package app wires all rooms to one process: New opens its parts, Start runs them, Stop undoes both.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sluice/configs"
	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/publish"
	"sluice/delay/push"
	"sluice/delay/stores"
	"sluice/fleet"
	"sluice/gateway"
	"sluice/gateway/ratelimit"
	"sluice/gateway/server"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/inventory/reconcile"
	"sluice/notify"
	"sluice/notify/channel"
	"sluice/notify/relay"
	"sluice/order/expiry"
	"sluice/order/lookup"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/settings/live"
	"sluice/store"
	"sluice/store/redis"
	"sluice/trace"
	"sluice/work"
)

// Options is what an App needs besides its configuration.
type Options struct {
	Roles    Roles
	Log      *slog.Logger
	Registry *prometheus.Registry
	Now      func() time.Time
	Version  string
	Level    *slog.LevelVar  // of Log, to follow log.level; nil leaves it as it is
	Loaded   *configs.Loaded // the source of cfg, for reloading; nil: there is none

	AdoptRedis bool // take over a Redis that belongs to another installation
}

// App is one Sluice process. New opens it, Start runs it, Stop undoes both in reverse order.
type App struct {
	cfg configs.Config
	opt Options
	log *slog.Logger

	tracer     *trace.Tracer // nil: nothing is traced
	redis      *redis.Store
	durability *redis.Durability
	db         *store.DB
	lines      *queue.Lines
	saleCache  *inventory.SaleCache
	reconciler *reconcile.Reconciler
	saleStore  *inventory.SaleStore
	auditor    *audit.Auditor
	gauges     *audit.Gauges
	unattended *unattended
	channels   *channel.Set
	outbox     []string // names of the channels for which events are queued
	finder     *lookup.Finder
	limiter    *ratelimit.Limiter
	live       *live.Settings
	beats      *fleet.Instances
	guard      *fleet.Guard
	name       string // of this instance among all
	number     int64  // its number in orders and tickets
	started    time.Time
	relay      *relay.Relay
	topics     *delay.Topics
	messages   *message.Store

	delayStores *stores.Stores // that keep messages

	publisher  *publish.Publisher
	dispatcher *push.Dispatcher
	consumer   *worker.Consumer
	expirer    *expiry.Expirer // nil: orders need not be paid, or this is no worker
	panics     *server.Panics
	gateway    *gateway.Gateway
	ops        *gin.Engine
	work       *work.Listener // nil: there is none
	public     net.Listener
	private    net.Listener
	systems    net.Listener // of work

	publicTLS, privateTLS, systemsTLS *tls.Config // nil: plain HTTP

	life     sync.Mutex // locked while it starts, and while it stops
	alive    context.Context
	end      context.CancelFunc // of alive: makes a start in progress give up
	undo     []undo
	begun    bool
	running  bool
	once     sync.Once
	stopping atomic.Bool
	clocked  atomic.Bool // Redis' clock was read
	failed   chan error
	err      error
}

// New opens everything that the roles need and binds the listeners. Nothing runs yet. After an error everything opened
// is closed again. Each step may need what earlier ones opened, and registers its undo at once.
func New(ctx context.Context, cfg configs.Config, opt Options) (app *App, err error) {
	a := &App{cfg: cfg, opt: opt, log: opt.Log, started: opt.Now(), failed: make(chan error, 1)}
	a.alive, a.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Stop(ctx))
		}
	}()
	reg := opt.Registry
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(opt.Version))
	a.panics = server.NewPanics(a.log, reg, opt.Now)

	if err = refusePrivateRedis(cfg.Redis.Mode, opt.Roles); err != nil {
		return nil, err
	}
	for _, open := range []func(context.Context) error{a.openTracer, a.openStores, a.openSales} {
		if err = open(ctx); err != nil {
			return nil, err
		}
	}
	if err = a.openNotify(ctx); err != nil {
		return nil, err
	}
	if opt.Roles.Worker {
		if err = a.openWorker(ctx); err != nil {
			return nil, err
		}
	}
	auth, err := a.authenticator()
	if err != nil {
		return nil, err
	}
	if opt.Roles.Gateway {
		if err = a.openGateway(ctx, auth); err != nil {
			return nil, err
		}
		if err = a.openWork(ctx, auth); err != nil {
			return nil, err
		}
	}
	if err = a.openOps(ctx, auth); err != nil {
		return nil, err
	}
	return a, nil
}

// Addr returns the address of the public listener, or "" without the gateway role.
func (a *App) Addr() string {
	if a.public == nil {
		return ""
	}
	return a.public.Addr().String()
}

// Failed returns a channel that gets the first error of a part that ended by itself. The process should then be
// stopped.
func (a *App) Failed() <-chan error { return a.failed }

// OpsAddr returns the address of the operations listener.
func (a *App) OpsAddr() string { return a.private.Addr().String() }

// WorkAddr returns the address of the listener for the shop's other systems, or "" where there is none.
func (a *App) WorkAddr() string {
	if a.systems == nil {
		return ""
	}
	return a.systems.Addr().String()
}

func (a *App) logFor(name string) *slog.Logger { return a.log.With("part", name) }

func names(channels []notify.Channel) []string {
	list := make([]string, len(channels))
	for i, c := range channels {
		list[i] = c.Name()
	}
	return list
}

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_build_info",
		Help:        "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version}})
	g.Set(1)
	return g
}

// OpenSale creates a sale on behalf of actor. When it returns, this process sells it.
func (a *App) OpenSale(ctx context.Context, n inventory.NewSale, actor string) error {
	if _, err := a.saleStore.Create(ctx, n, actor); err != nil {
		return err
	}
	if err := a.reconciler.SyncLine(ctx, n.ID); err != nil {
		return err
	}
	return a.saleCache.Refresh(ctx)
}

// Audit compares line and ledger of every sale.
func (a *App) Audit(ctx context.Context) (audit.Report, error) { return a.auditor.Run(ctx, "") }

// Name returns this instance's name in lists of instances.
func (a *App) Name() string { return a.name }

// Lines returns the lines that this process admits to and drains.
func (a *App) Lines() *queue.Lines { return a.lines }

// Live returns the configuration in force, which may change.
func (a *App) Live() *live.Settings { return a.live }

// Redis returns the open Redis of this process.
func (a *App) Redis() *redis.Store { return a.redis }
