// Package app is a whole process as a value: New opens its parts, Start runs them, Stop undoes both. It is the only
// wiring.
package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sluice/admin"
	"sluice/adminlog"
	"sluice/configs"
	"sluice/delay"
	"sluice/fleet"
	"sluice/gateway"
	"sluice/gateway/auth"
	"sluice/gateway/ratelimit"
	"sluice/gateway/server"
	"sluice/inventory"
	"sluice/notify"
	"sluice/notify/channel"
	"sluice/order"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/settings/live"
	"sluice/store"
	"sluice/store/redis"
	"sluice/trace"
)

// Roles are the parts of Sluice one process plays.
type Roles struct{ Gateway, Worker, Notifier bool }

// AllRoles is what a process plays unless told otherwise.
func AllRoles() Roles { return Roles{Gateway: true, Worker: true, Notifier: true} }

// names are the roles that are played, as --role has them.
func (r Roles) names() (played []string) {
	for _, role := range []struct {
		name string
		is   bool
	}{{"gateway", r.Gateway}, {"worker", r.Worker}, {"notifier", r.Notifier}} {
		if role.is {
			played = append(played, role.name)
		}
	}
	return played
}

// Options are what an App needs beside its configuration.
type Options struct {
	Roles    Roles
	Log      *slog.Logger
	Registry *prometheus.Registry
	Now      func() time.Time
	Version  string
	Level    *slog.LevelVar  // of Log, to follow log.level; nil leaves it as it is
	Loaded   *configs.Loaded // what cfg came from, to read it again; nil: it came from nowhere

	AdoptRedis bool // take over a Redis that belongs to another installation
}

// App is one Sluice process as a value: New opens, Start runs, Stop undoes
// both in reverse.
type App struct {
	cfg configs.Config
	opt Options
	log *slog.Logger

	tracer     *trace.Tracer // nil: nothing is traced
	redis      *redis.Store
	durability *redis.Durability
	db         *store.DB
	lines      *queue.Lines
	book       *inventory.Book
	keeper     *inventory.Keeper
	catalog    *inventory.Catalog
	auditor    *inventory.Auditor
	gauges     *inventory.Gauges
	channels   *channel.Set
	limiter    *ratelimit.Limiter
	live       *live.Settings
	beats      *queue.Instances
	guard      *fleet.Guard
	name       string // of this instance among all
	number     int64  // the same, for orders and tickets
	started    time.Time
	relay      *notify.Relay
	topics     *delay.Topics
	messages   *delay.Store
	dispatcher *delay.Dispatcher
	consumer   *worker.Consumer
	expirer    *order.Expirer // nil: orders need not be paid, or this is no worker
	panics     *server.Panics
	gateway    *gateway.Gateway
	ops        *gin.Engine
	public     net.Listener
	private    net.Listener

	publicTLS, privateTLS *tls.Config // nil: plain HTTP

	life     sync.Mutex // held while it starts, and while it stops
	alive    context.Context
	end      context.CancelFunc // of alive: whatever starts gives up
	undo     []undo
	begun    bool
	running  bool
	once     sync.Once
	stopping atomic.Bool
	clocked  atomic.Bool // Redis has told its clock
	failed   chan error
	err      error
}

// New opens everything the roles need and binds the listeners; nothing runs
// yet. After an error everything opened is closed again.
//
// It is one straight line on purpose: nearly every step needs what earlier
// ones produced, and the undo stands right behind each opening.
func New(ctx context.Context, cfg configs.Config, opt Options) (app *App, err error) {
	a := &App{cfg: cfg, opt: opt, log: opt.Log, started: opt.Now(), failed: make(chan error, 1)}
	a.alive, a.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Stop(ctx))
		}
	}()
	reg := opt.Registry
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(opt.Version))
	a.panics = server.NewPanics(a.log, reg, opt.Now)

	if err = a.openTracer(ctx); err != nil {
		return nil, err
	}
	if err = alone(cfg.Redis.Mode, opt.Roles); err != nil {
		return nil, err
	}
	if a.redis, err = redis.Open(ctx, cfg.Redis, a.log); err != nil {
		return nil, err
	}
	a.onStop("redis", func(context.Context) error { return a.redis.Close() })
	reg.MustRegister(redis.NewPoolCollector(a.redis.Client))
	a.durability = redis.NewDurability(a.redis, cfg.Redis, a.part("redis"), reg)
	if a.db, err = store.Open(ctx, cfg.Database, a.log); err != nil {
		return nil, err
	}
	a.onStop("database", func(context.Context) error { return a.db.Close() })
	reg.MustRegister(collectors.NewDBStatsCollector(a.db.Pool(), cfg.Database.Driver))
	if err = a.enter(ctx); err != nil {
		return nil, err
	}

	a.lines = queue.NewLines(a.redis.Client, a.cfg.Redis.Prefix).WithDurability(a.durability)
	a.lines.BoundCancels(a.cfg.Queue.MaxCancels)
	a.catalog = inventory.NewCatalog(a.db, opt.Now)
	a.book = inventory.NewBook(a.catalog, a.lines, a.part("book"), opt.Now)
	a.keeper = inventory.NewKeeper(a.db, a.lines, cfg.Queue.Cap, a.part("keeper"), opt.Now)
	a.keeper.MeasuredBy(a.pace)
	a.keeper.OwnedBy(a.guard.Owned)
	a.openLive()
	if a.number, err = inventory.NewRoster(a.db).Enrol(ctx, a.name, strings.Join(opt.Roles.names(), ","), opt.Version, opt.Now()); err != nil {
		return nil, err
	}
	a.lines = a.lines.Named(a.name).Numbered(a.number)
	a.auditor = inventory.NewAuditor(a.db, a.lines, cfg.Notify.Keep/2, opt.Now)
	a.gauges = inventory.NewGauges(a.book, a.auditor, a.part("audit"), opt.Now)
	a.gauges.MendBy(a.mend)
	reg.MustRegister(a.gauges, inventory.NewAuditAges(a.book, a.auditor))
	finder := order.NewFinder(a.db, a.lines, a.book)

	cfg.Notify.Stream = cfg.Notify.Stream.Behind(cfg.Redis.Prefix)
	if a.channels, err = channel.Open(channel.Parts{Config: cfg.Notify, Redis: a.redis.Client,
		LookUp: finder.Recipients, Log: a.part("notify"), Now: opt.Now, Registry: reg}); err != nil {
		return nil, err
	}
	a.onStop("channels", func(context.Context) error { return a.channels.Close() })
	if err = a.openDelay(reg); err != nil {
		return nil, err
	}
	out := a.channels.All()
	if cfg.Delay.OrderEvents {
		out = append(out, delay.NewEvents(a.topics, a.messages))
	}
	channels := a.tracedChannels(out...)
	a.keeper.RestoreBy(order.NewRestorer(a.db, names(channels), opt.Now, order.InstanceMark(a.number)).Restore)
	a.relay = notify.NewRelay(notify.RelayParts{Config: cfg.Notify.Config, Write: a.db.Write, Read: a.db.Read,
		Channels: channels, Log: a.part("notify"), Clock: opt.Now, Registry: reg, InstanceID: a.number,
		OnDead: func(channel string, n int64) { a.channels.Alerts.Add("notifications of channel "+channel, n) }})
	if opt.Roles.Worker {
		fulfiller := order.NewFulfiller(a.db, a.catalog, a.book, cfg.Payment.Deadline(), names(channels), a.relay.Wake, a.part("order"), opt.Now).On(order.InstanceMark(a.number))
		if err = fulfiller.Prepare(ctx); err != nil {
			return nil, err
		}
		journal := order.NewJournal(fulfiller, a.lines, a.name, a.part("order"), opt.Now)
		a.consumer, err = worker.New(worker.Options{
			Config: cfg.Queue, Pool: cfg.Pool, Lines: a.lines, Sales: a.book.Active, Handler: a.tracedHandler(journal),
			OneWriter: a.db.Driver == store.SQLite, Bar: a.held,
			Log: a.part("queue"), Now: opt.Now, Metrics: reg,
		})
		if err != nil {
			return nil, err
		}
		a.onStop("pool of workers", func(context.Context) error { return a.consumer.Close() })
		if cfg.Payment.On() {
			a.expirer = order.NewExpirer(a.db, a.lines, a.keeper, a.book.Active, names(channels), a.relay.Wake, a.part("order"), a.book.Now, reg)
		}
	}
	auth, err := a.authenticator()
	if err != nil {
		return nil, err
	}
	if opt.Roles.Gateway {
		canceller := order.NewCanceller(a.db, a.lines, a.keeper, names(channels), a.relay.Wake, a.part("order"), opt.Now)
		receipts, err := a.receipts()
		if err != nil {
			return nil, err
		}
		losses := order.NewLosses(a.db, a.lines, names(channels), a.relay.Wake, a.part("order"), a.book.Now, reg)
		payments, err := a.payments(names(channels))
		if err != nil {
			return nil, err
		}
		a.gateway, err = gateway.New(cfg.Gateway, gateway.Parts{Auth: auth, Receipts: receipts, Limiter: a.limiter, Lines: a.lines,
			Book: a.book, Keeper: a.keeper, Finder: finder, Canceller: canceller, Losses: losses, Payments: payments, Barred: a.barred,
			Admitted: a.tracedAdmission(), Panics: a.panics},
			a.part("gateway"), reg, opt.Now)
		if err != nil {
			return nil, err
		}
		if a.publicTLS, err = a.encryption(cfg.HTTP.TLSCert, cfg.HTTP.TLSKey); err != nil {
			return nil, fmt.Errorf("http.tls_cert: %w", err)
		}
		if a.public, err = server.Listen(ctx, cfg.HTTP.Addr); err != nil {
			return nil, err
		}
		a.onStop("public listener", closer(a.public))
	}
	adminLog := adminlog.New(a.db, a.part("adminlog"), opt.Now, a.number)
	a.ops = admin.New(admin.Parts{Auth: auth, Catalog: a.catalog, AdminLog: adminLog, Book: a.book, Keeper: a.keeper, Auditor: a.auditor, Lines: a.lines, Lease: cfg.Queue.Lease,
		Finder: finder, Events: a.channels.Stream, Outbox: notify.NewAdmin(a.db.Write, a.db.Read, opt.Now, a.relay.Wake),
		Dead: order.NewDeadLetters(a.db, a.lines, adminLog), Timelines: order.NewTimelines(a.db, a.lines, finder),
		Topics: a.topics, Messages: a.messages, Settings: a.live, Beats: a.beats, Checks: a.checks(), Barred: a.guard.Err, Gatherer: reg, Draining: a.stopping.Load,
		Panics: a.panics}, a.part("ops"), opt.Now)
	if a.privateTLS, err = a.encryption(cfg.Ops.TLSCert, cfg.Ops.TLSKey); err != nil {
		return nil, fmt.Errorf("ops.tls_cert: %w", err)
	}
	a.followLive()
	if a.private, err = server.Listen(ctx, cfg.Ops.Addr); err != nil {
		return nil, err
	}
	a.onStop("operations listener", closer(a.private))
	return a, nil
}

// mend rebuilds the line of a sale that differs for some time, and calls the operators.
func (a *App) mend(ctx context.Context, s inventory.SaleAudit) {
	err := a.keeper.Mend(ctx, s)
	if errors.Is(err, inventory.ErrBusy) {
		return // another instance has done it
	}
	log := a.log.With("sale", s.Sale, "difference", s.Difference, "missing", s.Missing)
	if err != nil {
		log.Error("ledger and line differ, and the line could not be rebuilt", "error", err)
		a.channels.Alerts.Add("the ledger and the line of sale "+s.Sale+" differ, and it was not mended", 1)
		return
	}
	log.Error("ledger and line differed: the line was rebuilt")
	a.channels.Alerts.Add("the ledger and the line of sale "+s.Sale+" differed: its line was rebuilt", 1)
}

// alone refuses a Redis that nobody else can reach to a process that needs
// others: its orders would wait for a worker for ever.
func alone(mode string, roles Roles) error {
	if (mode == redis.ModeEmbedded || mode == redis.ModeManaged) && roles != AllRoles() {
		return fmt.Errorf("redis.mode %s belongs to one process: it must play all roles; give redis.addrs to play some", mode)
	}
	return nil
}

func (a *App) authenticator() (*auth.Authenticator, error) {
	proxies, err := a.cfg.Gateway.Proxies()
	if err != nil {
		return nil, err
	}
	return auth.NewAuthenticator(a.cfg.Auth, proxies, a.opt.Now)
}

// receipts are signed with a secret of their own, else with the tokens'.
func (a *App) receipts() (*gateway.Receipts, error) {
	secret := cmp.Or(a.cfg.Gateway.ReceiptSecret, a.cfg.Auth.Secret)
	if secret == "" {
		a.log.Warn("no receipts are given: an accepted order that Redis loses cannot be honoured; set gateway.receipt_secret")
		return nil, nil
	}
	return gateway.NewReceipts(secret)
}

func (a *App) checks() []admin.Check {
	checks := []admin.Check{
		{Name: "redis", Ask: a.redis.Ping},
		{Name: "durability", Ask: func(context.Context) error { return a.durability.Check() }, Note: a.durability.Level},
		{Name: "database", Ask: a.db.Ping},
		{Name: "schema and installation", Ask: func(context.Context) error { return a.guard.Err() }},
		{Name: "settings", Ask: func(context.Context) error { return a.live.Known() }},
		{Name: "lines", Ask: a.book.Ready},
	}
	if a.consumer == nil {
		return checks
	}
	return append(checks, admin.Check{Name: "draining", Ask: func(context.Context) error {
		if pause, ok := a.consumer.Paused(); ok {
			return pause
		}
		return nil
	}})
}

// Addr is where the public listener answers; empty without the gateway role.
func (a *App) Addr() string {
	if a.public == nil {
		return ""
	}
	return a.public.Addr().String()
}

// Failed gets the error of a part that ended by itself, the first one only:
// the process is then of no use and should be stopped.
func (a *App) Failed() <-chan error { return a.failed }

// OpsAddr is where the operations listener answers.
func (a *App) OpsAddr() string { return a.private.Addr().String() }

func (a *App) part(name string) *slog.Logger { return a.log.With("part", name) }

func names(channels []notify.Channel) []string {
	list := make([]string, len(channels))
	for i, c := range channels {
		list[i] = c.Name()
	}
	return list
}

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version}})
	g.Set(1)
	return g
}
