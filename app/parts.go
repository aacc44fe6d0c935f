package app

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus/collectors"

	"sluice/admin"
	"sluice/adminlog"
	"sluice/delay/publish"
	"sluice/fleet"
	"sluice/gateway"
	"sluice/gateway/auth"
	"sluice/gateway/server"
	"sluice/internal/phone"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/inventory/reconcile"
	"sluice/notify"
	"sluice/notify/channel"
	"sluice/notify/relay"
	"sluice/notify/webhook"
	"sluice/order"
	"sluice/order/deadletter"
	"sluice/order/expiry"
	"sluice/order/lookup"
	"sluice/order/payment"
	"sluice/order/restore"
	"sluice/order/timeline"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/store"
	"sluice/store/redis"
)

// openStores opens Redis and the database, and checks that this instance may use them.
func (a *App) openStores(ctx context.Context) (err error) {
	cfg, reg := a.cfg, a.opt.Registry
	if a.redis, err = redis.Open(ctx, cfg.Redis, a.log); err != nil {
		return err
	}
	a.onStop("redis", func(context.Context) error { return a.redis.Close() })
	reg.MustRegister(redis.NewPoolCollector(a.redis.Client))
	a.durability = redis.NewDurability(a.redis, cfg.Redis, a.logFor("redis"), reg)
	if a.db, err = store.Open(ctx, cfg.Database, a.log); err != nil {
		return err
	}
	a.onStop("database", func(context.Context) error { return a.db.Close() })
	reg.MustRegister(collectors.NewDBStatsCollector(a.db.Pool(), cfg.Database.Driver))
	if err = a.join(ctx); err != nil {
		return err
	}
	return nil
}

// openSales creates the sale store, the lines, the sale cache, the reconciler and the auditor.
func (a *App) openSales(ctx context.Context) (err error) {
	cfg, opt, reg := a.cfg, a.opt, a.opt.Registry
	a.lines = queue.NewLines(a.redis.Client, a.cfg.Redis.Prefix).WithDurability(a.durability)
	a.lines.BoundCancels(a.cfg.Queue.MaxCancels)
	a.saleStore = inventory.NewSaleStore(a.db, opt.Now)
	a.saleCache = inventory.NewSaleCache(a.saleStore, a.lines, a.logFor("book"), opt.Now)
	a.reconciler = reconcile.New(a.db, a.lines, cfg.Queue.Cap, a.logFor("keeper"), opt.Now)
	a.reconciler.MeasuredBy(a.drainRate)
	a.reconciler.OwnedBy(a.guard.Owned)
	a.openLive()
	roles := strings.Join(opt.Roles.names(), ",")
	if a.number, err = fleet.NewRegistry(a.db).Enrol(ctx, a.name, roles, opt.Version, opt.Now()); err != nil {
		return err
	}
	a.lines = a.lines.ForInstance(a.name, a.number)
	a.auditor = audit.New(a.db, a.lines, cfg.Notify.Keep/2, opt.Now)
	a.gauges = audit.NewGauges(a.saleCache, a.auditor, a.logFor("audit"), opt.Now)
	a.gauges.MendBy(a.mendLine)
	reg.MustRegister(a.gauges, audit.NewAges(a.saleCache, a.auditor))
	a.finder = lookup.NewFinder(a.db, a.lines, a.saleCache)
	return nil
}

// openNotify opens the channels and the relay.
func (a *App) openNotify(ctx context.Context) (err error) {
	cfg, opt, reg := a.cfg, a.opt, a.opt.Registry
	cfg.Notify.Stream = cfg.Notify.Stream.Behind(cfg.Redis.Prefix)
	if a.channels, err = channel.Open(channel.Parts{Config: cfg.Notify, Redis: a.redis.Client,
		LookUp: a.finder.Recipients, Ledger: a.finder.Facts, Log: a.logFor("notify"), Now: opt.Now, Registry: reg,
		Prefix: cfg.Redis.Prefix, Journal: cfg.Redis.Prefix + ":alerts"}); err != nil {
		return err
	}
	a.onStop("channels", func(context.Context) error { return a.channels.Close() })
	if err = a.openDelay(ctx, reg); err != nil {
		return err
	}
	out := a.channels.All()
	if cfg.Delay.OrderEvents {
		out = append(out, publish.NewEvents(publish.EventsParts{Topics: a.topics, Publisher: a.publisher,
			Ledger: a.finder.Facts, Log: a.logFor("topics"), Now: a.opt.Now}))
	}
	channels := a.tracedChannels(out...)
	a.outbox = names(channels)
	a.reconciler.RestoreBy(restore.NewRestorer(a.db, a.outbox, opt.Now, order.InstanceMark(a.number)).Restore)
	a.relay = relay.New(relay.Parts{Config: cfg.Notify.Config, Write: a.db.Write, Read: a.db.Read,
		Channels: channels, Log: a.logFor("notify"), Clock: opt.Now, Time: a.db.Time, Registry: reg,
		InstanceID: a.number,
		OnDead:     func(channel string, n int64) { a.channels.Alerts.Add("notifications of channel "+channel, n) }})
	return nil
}

// openWorker creates the consumer that makes orders of tickets.
func (a *App) openWorker(ctx context.Context) (err error) {
	cfg, opt, reg := a.cfg, a.opt, a.opt.Registry
	fulfiller := order.NewFulfiller(order.FulfillerParts{
		DB: a.db, Sales: a.saleStore, Cache: a.saleCache, Deadline: cfg.Payment.Deadline(),
		Channels: a.outbox, OnCommit: a.relay.Wake, Log: a.logFor("order"), Now: opt.Now,
	}).On(order.InstanceMark(a.number))
	if err = fulfiller.Prepare(ctx); err != nil {
		return err
	}
	journal := timeline.NewJournal(fulfiller, a.lines, a.name, a.logFor("order"), opt.Now)
	a.consumer, err = worker.New(worker.Options{
		Config: cfg.Queue, Pool: cfg.Pool, Lines: a.lines, Sales: a.takenSales, Handler: a.tracedHandler(journal),
		OneWriter: a.db.Driver == store.SQLite, Bar: a.drainBarred,
		Log: a.logFor("queue"), Now: opt.Now, Metrics: reg,
	})
	if err != nil {
		return err
	}
	a.onStop("pool of workers", func(context.Context) error { return a.consumer.Close() })
	if cfg.Payment.On() {
		a.expirer = expiry.NewExpirer(expiry.Parts{
			DB: a.db, Lines: a.lines, Reconciler: a.reconciler, Active: a.saleCache.Active, Channels: a.outbox,
			OnCommit: a.relay.Wake, Log: a.logFor("order"), Now: a.saleCache.Now, Metrics: reg,
		})
	}
	return nil
}

// openGateway creates the public routes and binds their listener.
func (a *App) openGateway(ctx context.Context, auth *auth.Authenticator) (err error) {
	cfg, opt, reg := a.cfg, a.opt, a.opt.Registry
	canceller := order.NewCanceller(order.CancellerParts{
		DB: a.db, Lines: a.lines, Reconciler: a.reconciler, Channels: a.outbox, OnCommit: a.relay.Wake,
		Log: a.logFor("order"), Now: opt.Now,
	})
	receipts, err := a.receipts()
	if err != nil {
		return err
	}
	losses := restore.NewLosses(restore.LossesParts{
		DB: a.db, Lines: a.lines, Channels: a.outbox, OnCommit: a.relay.Wake, Log: a.logFor("order"),
		Now: a.saleCache.Now, Metrics: reg,
	})
	payments, err := a.payments(a.outbox)
	if err != nil {
		return err
	}
	phones, err := phone.PlanOf(cfg.Notify.SMS.DefaultRegion)
	if err != nil {
		return fmt.Errorf("notify.sms.default_region: %w", err)
	}
	a.gateway, err = gateway.New(cfg.Gateway, gateway.Parts{
		Auth: auth, Receipts: receipts, Limiter: a.limiter, Lines: a.lines,
		SaleCache: a.saleCache, Reconciler: a.reconciler, Finder: a.finder, Canceller: canceller, Losses: losses,
		Payments: payments, Barred: a.barred, Phones: phones,
		Admitted: a.tracedAdmission(), Panics: a.panics},
		a.logFor("gateway"), reg, opt.Now)
	if err != nil {
		return err
	}
	if a.publicTLS, err = a.encryption(cfg.HTTP.TLSCert, cfg.HTTP.TLSKey); err != nil {
		return fmt.Errorf("http.tls_cert: %w", err)
	}
	if a.public, err = server.Listen(ctx, cfg.HTTP.Addr); err != nil {
		return err
	}
	a.onStop("public listener", closer(a.public))
	return nil
}

// openOps creates the operations routes and binds their listener. It comes last, because it uses every other part.
func (a *App) openOps(ctx context.Context, auth *auth.Authenticator) (err error) {
	cfg, opt, reg := a.cfg, a.opt, a.opt.Registry
	adminLog := adminlog.New(a.db, a.logFor("adminlog"), opt.Now, a.number)
	a.unattended = newUnattended(reg)
	a.ops = admin.New(admin.Parts{
		Auth: auth, SaleStore: a.saleStore, AdminLog: adminLog, SaleCache: a.saleCache, Reconciler: a.reconciler,
		Auditor: a.auditor, Lines: a.lines, Lease: cfg.Queue.Lease,
		Finder: a.finder, Events: a.channels.Stream,
		Outbox: notify.NewAdmin(a.db.Write, a.db.Read, opt.Now, a.relay.Wake),
		Dead:   deadletter.NewAdmin(a.db, a.lines, adminLog), Timelines: timeline.NewTimelines(a.db, a.lines, a.finder),
		Topics: a.topics, Messages: a.messages, Publisher: a.publisher, Settings: a.live, Beats: a.beats,
		Checks: a.checks(),
		Barred: a.guard.Err, Gatherer: reg, Draining: a.stopping.Load,
		Panics: a.panics}, a.logFor("ops"), opt.Now)
	if a.privateTLS, err = a.encryption(cfg.Ops.TLSCert, cfg.Ops.TLSKey); err != nil {
		return fmt.Errorf("ops.tls_cert: %w", err)
	}
	a.followLive()
	if a.private, err = server.Listen(ctx, cfg.Ops.Addr); err != nil {
		return err
	}
	a.onStop("operations listener", closer(a.private))
	return nil
}

func (a *App) authenticator() (*auth.Authenticator, error) {
	proxies, err := a.cfg.Gateway.Proxies()
	if err != nil {
		return nil, err
	}
	return auth.NewAuthenticator(a.cfg.Auth, proxies, a.opt.Now)
}

// receipts returns the signer of receipts, with a secret of its own or else the tokens'.
func (a *App) receipts() (*gateway.Receipts, error) {
	secret := cmp.Or(a.cfg.Gateway.ReceiptSecret, a.cfg.Auth.Secret)
	if secret == "" {
		a.log.Warn("no receipts are given: an accepted order that Redis loses cannot be honoured; " +
			"set gateway.receipt_secret")
		return nil, nil
	}
	return gateway.NewReceipts(secret)
}

// payments returns the receiver of the provider's callbacks, or nil when payments are off.
func (a *App) payments(channels []string) (*gateway.Payments, error) {
	if !a.cfg.Payment.On() {
		return nil, nil
	}
	verifier, err := webhook.NewVerifier(a.saleCache.Now, a.cfg.Payment.Secret...)
	if err != nil {
		return nil, fmt.Errorf("payment.secret: %w", err)
	}
	payer := payment.NewPayer(payment.Parts{
		DB: a.db, Lines: a.lines, Sales: a.saleStore, Lease: a.cfg.Queue.Lease, Channels: channels,
		OnCommit: a.relay.Wake, Log: a.logFor("order"), Now: a.saleCache.Now, Metrics: a.opt.Registry,
	})
	return &gateway.Payments{Verifier: verifier, Payer: payer}, nil
}
