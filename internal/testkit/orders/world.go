// Package orders gives tests of orders one sale on one database and one Redis, with every part around it.
package orders

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/inventory/reconcile"
	"sluice/order"
	"sluice/order/expiry"
	"sluice/order/lookup"
	"sluice/order/payment"
	"sluice/order/restore"
	"sluice/queue"
	"sluice/store"
	storeredis "sluice/store/redis"
)

const (
	// Sale is the sale of a World.
	Sale = "sale"
	// Lease stands for the whole test.
	Lease = 10 * time.Minute
	// Cap is that of lines whose sale has none.
	Cap = 10_000
	// Soon bounds the wait for what happens beside a test.
	Soon = 20 * time.Second
)

// Channels returns two, so that rows per order and channel can be told apart.
func Channels() []string { return []string{"stream", "email"} }

// World is one sale on one database and one Redis, with every part around it.
type World struct {
	T          testing.TB
	Ctx        context.Context
	Clock      *testkit.Clock // of sales, lines and audit in an empty World; nil: they go by the real one
	DB         *store.DB
	Redis      *redis.Client
	Addr       string // of Redis
	Lines      *queue.Lines
	Line       *queue.Line
	Sales      *inventory.SaleStore
	Cache      *inventory.SaleCache
	Reconciler *reconcile.Reconciler
	Auditor    *audit.Auditor
	Fulfiller  *order.Fulfiller
	Canceller  *order.Canceller
	Payer      *payment.Payer
	Expirer    *expiry.Expirer
	Finder     *lookup.Finder
	Losses     *restore.Losses
	Commits    atomic.Int64 // that the parts have announced
	Tickets    int          // requested so far
	calls      atomic.Int64 // to Redis
}

// EachDatabase runs a test on every database, each with an in-process Redis.
func EachDatabase(t *testing.T, stock int64, limit int, test func(w *World)) {
	t.Helper()
	each(t, stock, limit, 0, test)
}

// EachUnpaid runs a test as EachDatabase does, with orders that must be paid within an hour.
func EachUnpaid(t *testing.T, stock int64, limit int, test func(w *World)) {
	t.Helper()
	each(t, stock, limit, time.Hour, test)
}

func each(t *testing.T, stock int64, limit int, deadline time.Duration, test func(w *World)) {
	t.Helper()
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			test(NewUnpaid(t, d, testkit.Embedded(t).Addr(), Terms{stock, limit, deadline}))
		})
	}
}

// OnSQLite returns a World for a test whose point has nothing to do with dialects.
func OnSQLite(t *testing.T, stock int64, limit int) *World {
	t.Helper()
	t.Parallel()
	return New(t, tables.New(t, store.SQLite), testkit.Embedded(t).Addr(), stock, limit)
}

// New returns a World whose orders need not be paid.
func New(t testing.TB, d testkit.Database, addr string, stock int64, limit int) *World {
	t.Helper()
	return NewUnpaid(t, d, addr, Terms{Stock: stock, Limit: limit})
}

// Terms are those of a World's sale.
type Terms struct {
	Stock    int64
	Limit    int           // units for one user
	Deadline time.Duration // until an order must be paid; 0: it need not be
}

// NewUnpaid returns a World whose orders must be paid within a deadline.
func NewUnpaid(t testing.TB, d testkit.Database, addr string, terms Terms) *World {
	t.Helper()
	w := build(t, d, addr, terms.Deadline, time.Now)
	w.OpenSale(Sale, terms.Stock, terms.Limit)
	return w
}

// EachEmpty runs a test on every database, each with an in-process Redis and no sale yet.
func EachEmpty(t *testing.T, test func(w *World)) {
	t.Helper()
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			test(NewEmpty(t, d, testkit.Embedded(t).Addr()))
		})
	}
}

// EmptyOnSQLite returns a World without a sale for a test whose point has nothing to do with dialects.
func EmptyOnSQLite(t *testing.T) *World {
	t.Helper()
	t.Parallel()
	return NewEmpty(t, tables.New(t, store.SQLite), testkit.Embedded(t).Addr())
}

// NewEmpty returns a World without a sale. Its sales, lines and audit go by a clock that only the test moves.
func NewEmpty(t testing.TB, d testkit.Database, addr string) *World {
	t.Helper()
	clock := testkit.NewClock(time.Now())
	w := build(t, d, addr, 0, clock.Now)
	w.Clock = clock
	return w
}

func build(t testing.TB, d testkit.Database, addr string, deadline time.Duration, now func() time.Time) *World {
	t.Helper()
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	w := &World{T: t, Ctx: t.Context(), DB: tables.Open(t, d), Redis: testkit.ProductClient(t, addr), Addr: addr}
	w.Redis.AddHook(counter{&w.calls})
	w.Lines = queue.NewLines(w.Redis, queue.DefaultPrefix)
	w.Line = w.Lines.Of(Sale)
	w.Sales = inventory.NewSaleStore(w.DB, now)
	w.Cache = inventory.NewSaleCache(w.Sales, w.Lines, log, now)
	w.Reconciler = reconcile.New(w.DB, w.Lines, Cap, log, now)
	w.Auditor = audit.New(w.DB, w.Lines, time.Hour, now)
	committed := func() { w.Commits.Add(1) }
	w.Fulfiller = order.NewFulfiller(order.FulfillerParts{
		DB: w.DB, Sales: w.Sales, Cache: w.Cache, Deadline: deadline, Channels: Channels(),
		OnCommit: committed, Log: log, Now: time.Now,
	})
	w.Canceller = order.NewCanceller(order.CancellerParts{
		DB: w.DB, Lines: w.Lines, Reconciler: w.Reconciler, Channels: Channels(), OnCommit: committed,
		Log: log, Now: time.Now,
	})
	w.Payer = payment.NewPayer(payment.Parts{
		DB: w.DB, Lines: w.Lines, Sales: w.Sales, Lease: Lease, Channels: Channels(), OnCommit: committed,
		Log: log, Now: w.Cache.Now, Metrics: reg,
	})
	w.Expirer = expiry.NewExpirer(expiry.Parts{
		DB: w.DB, Lines: w.Lines, Reconciler: w.Reconciler, Active: w.Cache.Active,
		Channels: Channels(), OnCommit: committed, Log: log, Now: w.Cache.Now, Metrics: reg,
	})
	w.Finder = lookup.NewFinder(w.DB, w.Lines, w.Cache)
	w.Losses = restore.NewLosses(restore.LossesParts{
		DB: w.DB, Lines: w.Lines, Channels: Channels(), OnCommit: committed, Log: log, Now: w.Cache.Now,
		Metrics: reg,
	})
	return w
}

// OtherReconciler returns the reconciler of another instance, with a clock of its own.
func (w *World) OtherReconciler(clock *testkit.Clock) *reconcile.Reconciler {
	return reconcile.New(w.DB, w.Lines, Cap, slog.New(slog.DiscardHandler), clock.Now)
}

// CatchUp lets reconciler and cache see what has changed.
func (w *World) CatchUp() {
	w.T.Helper()
	require.NoError(w.T, w.Reconciler.Reconcile(w.Ctx))
	require.NoError(w.T, w.Cache.Refresh(w.Ctx))
}

// Calls returns how often Redis was asked.
func (w *World) Calls() int64 { return w.calls.Load() }

// counter counts the calls of a client.
type counter struct{ calls *atomic.Int64 }

func (c counter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.calls.Add(1)
		return next(ctx, cmd)
	}
}

func (c counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.calls.Add(1)
		return next(ctx, cmds)
	}
}

// VerifyMain runs the tests of a package, as testkit.VerifyMain does.
func VerifyMain(m *testing.M) {
	storeredis.LogClient(slog.New(slog.DiscardHandler))
	testkit.VerifyMain(m, tables.Clear)
}
