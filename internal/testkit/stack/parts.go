package stack

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/admin"
	"sluice/adminlog"
	"sluice/delay"
	"sluice/fleet"
	"sluice/gateway"
	"sluice/gateway/auth"
	"sluice/gateway/ratelimit"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/inventory/reconcile"
	"sluice/notify"
	"sluice/notify/channel"
	"sluice/order"
	"sluice/order/deadletter"
	"sluice/order/lookup"
	"sluice/order/restore"
	"sluice/order/timeline"
	"sluice/queue"
	"sluice/queue/worker"
)

// Receipts signs and reads the receipts of a stack's orders.
func Receipts(t testing.TB) *gateway.Receipts {
	r, err := gateway.NewReceipts("a secret of the tests, long enough")
	require.NoError(t, err)
	return r
}

func (s *Stack) openParts(c Setup) {
	s.SaleStore = inventory.NewSaleStore(s.DB, time.Now)
	s.SaleCache = inventory.NewSaleCache(s.SaleStore, s.Lines, QuietLog(), time.Now)
	s.Reconciler = reconcile.New(s.DB, s.Lines, 1000, QuietLog(), time.Now)
	s.Auditor = audit.New(s.DB, s.Lines, time.Hour, time.Now)
	s.topics = delay.NewTopics(delay.TopicsParts{Config: c.Delay, DB: s.DB, Messages: s.messages, Log: QuietLog(),
		Now: time.Now})
	s.Limiter = ratelimit.New(c.Limits, time.Now)
	authenticator, err := auth.NewAuthenticator(Auth(), nil, time.Now)
	require.NoError(s.T, err)
	finder := lookup.NewFinder(s.DB, s.Lines, s.SaleCache)
	s.openGateway(c, authenticator, finder)
	s.openAdmin(c, authenticator, finder)
}

func (s *Stack) openGateway(c Setup, authenticator *auth.Authenticator, finder *lookup.Finder) {
	canceller := order.NewCanceller(order.CancellerParts{
		DB: s.DB, Lines: s.Lines, Reconciler: s.Reconciler, Channels: []string{"stream"},
		OnCommit: func() {}, Log: QuietLog(), Now: time.Now,
	})
	losses := restore.NewLosses(restore.LossesParts{
		DB: s.DB, Lines: s.Lines, Channels: []string{"stream"}, OnCommit: func() {},
		Log: QuietLog(), Now: s.SaleCache.Now, Metrics: s.Registry,
	})
	var err error
	s.Gateway, err = gateway.New(c.Gateway, gateway.Parts{Auth: authenticator, Receipts: Receipts(s.T),
		Limiter: s.Limiter, Lines: s.Lines, SaleCache: s.SaleCache, Reconciler: s.Reconciler,
		Finder: finder, Canceller: canceller, Losses: losses, Payments: s.openPayments()},
		QuietLog(), s.Registry, c.Now)
	require.NoError(s.T, err)
}

func (s *Stack) openAdmin(c Setup, authenticator *auth.Authenticator, finder *lookup.Finder) {
	log := adminlog.New(s.DB, QuietLog(), time.Now, 0)
	s.OpsEngine = admin.New(admin.Parts{Auth: authenticator, SaleStore: s.SaleStore, AdminLog: log,
		Dead: deadletter.NewAdmin(s.DB, s.Lines, log), SaleCache: s.SaleCache, Reconciler: s.Reconciler,
		Auditor: s.Auditor,
		Lines:   s.Lines, Lease: queue.DefaultConfig().Lease, Finder: finder,
		Timelines: timeline.NewTimelines(s.DB, s.Lines, finder),
		Outbox:    notify.NewAdmin(s.DB.Write, s.DB.Read, time.Now, func() {}),
		Events:    channel.NewStream(channel.DefaultStreamConfig().Behind("sluice"), s.Redis, nil),
		Topics:    s.topics, Messages: s.messages, Settings: c.Settings,
		Beats: fleet.NewInstances(s.Redis, queue.DefaultPrefix, QuietLog()), Checks: c.Checks,
		Gatherer: s.Registry, Draining: s.Draining.Load}, QuietLog(), time.Now)
}

// Work starts the workers that fulfil orders and returns how to stop them.
func (s *Stack) Work() (stop func()) {
	s.T.Helper()
	fulfiller := order.NewFulfiller(order.FulfillerParts{
		DB: s.DB, Sales: s.SaleStore, Cache: s.SaleCache, Deadline: s.payments.Deadline(),
		Channels: []string{"stream"}, OnCommit: func() {}, Log: QuietLog(), Now: time.Now,
	})
	consumer, err := worker.New(worker.Options{
		Config: queue.DefaultConfig(), Pool: worker.DefaultPoolConfig(), Lines: s.Lines, Sales: s.SaleCache.Active,
		Handler: fulfiller, Log: QuietLog(), Now: time.Now, Metrics: s.Registry,
	})
	require.NoError(s.T, err)
	return s.Run(func(ctx context.Context) { _ = consumer.Run(ctx) })
}
