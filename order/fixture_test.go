package order_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/notify"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
	"sluice/store/schema"
)

const (
	theSale = "sale"
	lease   = 10 * time.Minute // stands for the whole test
	soon    = 20 * time.Second
)

// channels are two, so that rows per order and channel can be told apart.
var channels = []string{"stream", "email"}

// world is one sale on one database and one Redis, with every part around it.
type world struct {
	t          testing.TB
	ctx        context.Context
	db         *store.DB
	rdb        *redis.Client
	lines      *queue.Lines
	line       *queue.Line
	sales      *inventory.SaleStore
	cache      *inventory.SaleCache
	reconciler *inventory.Reconciler
	auditor    *inventory.Auditor
	fulfiller  *order.Fulfiller
	canceller  *order.Canceller
	payer      *order.Payer
	expirer    *order.Expirer
	finder     *order.Finder
	losses     *order.Losses
	told       atomic.Int64
	asked      atomic.Int64 // calls to Redis
	tickets    int          // admitted so far
}

// eachDatabase runs a test on every database, each with an in-process Redis.
func eachDatabase(t *testing.T, stock int64, limit int, test func(w *world)) {
	t.Helper()
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			test(newWorld(t, d, testkit.Embedded(t).Addr(), stock, limit))
		})
	}
}

// onSQLite runs a test whose point has nothing to do with dialects.
func onSQLite(t *testing.T, stock int64, limit int) *world {
	t.Helper()
	t.Parallel()
	return newWorld(t, tables.New(t, store.SQLite), testkit.Embedded(t).Addr(), stock, limit)
}

// eachUnpaid is eachDatabase with orders that must be paid within an hour.
func eachUnpaid(t *testing.T, stock int64, limit int, test func(w *world)) {
	t.Helper()
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			test(newWorldWith(t, d, testkit.Embedded(t).Addr(), stock, limit, time.Hour))
		})
	}
}

func newWorld(t *testing.T, d testkit.Database, addr string, stock int64, limit int) *world {
	t.Helper()
	return newWorldWith(t, d, addr, stock, limit, 0)
}

func newWorldWith(t testing.TB, d testkit.Database, addr string, stock int64, limit int,
	deadline time.Duration) *world {
	t.Helper()
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = d.Driver, d.DSN
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), cfg, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = schema.Of(db).Migrate(t.Context())
	require.NoError(t, err)

	w := &world{t: t, ctx: t.Context(), db: db, rdb: dial(t, addr)}
	w.rdb.AddHook(counter{&w.asked})
	w.lines = queue.NewLines(w.rdb, queue.DefaultPrefix)
	w.line = w.lines.Of(theSale)
	w.sales = inventory.NewSaleStore(db, time.Now)
	w.cache = inventory.NewSaleCache(w.sales, w.lines, log, time.Now)
	w.reconciler = inventory.NewReconciler(db, w.lines, 10_000, log, time.Now)
	w.auditor = inventory.NewAuditor(db, w.lines, time.Hour, time.Now)
	told := func() { w.told.Add(1) }
	w.fulfiller = order.NewFulfiller(order.FulfillerParts{
		DB: db, Sales: w.sales, Cache: w.cache, Deadline: deadline, Channels: channels,
		OnCommit: told, Log: log, Now: time.Now,
	})
	w.canceller = order.NewCanceller(order.CancellerParts{
		DB: db, Lines: w.lines, Reconciler: w.reconciler, Channels: channels, OnCommit: told,
		Log: log, Now: time.Now,
	})
	reg := prometheus.NewRegistry()
	w.payer = order.NewPayer(order.PayerParts{
		DB: db, Lines: w.lines, Sales: w.sales, Lease: lease, Channels: channels, OnCommit: told,
		Log: log, Now: w.cache.Now, Metrics: reg,
	})
	w.expirer = order.NewExpirer(order.ExpirerParts{
		DB: db, Lines: w.lines, Reconciler: w.reconciler, Active: w.cache.Active,
		Channels: channels, OnCommit: told, Log: log, Now: w.cache.Now, Metrics: reg,
	})
	w.finder = order.NewFinder(db, w.lines, w.cache)
	w.losses = order.NewLosses(order.LossesParts{
		DB: db, Lines: w.lines, Channels: channels, OnCommit: told, Log: log, Now: w.cache.Now,
		Metrics: reg,
	})
	w.openSale(theSale, stock, limit)
	return w
}

// dial opens a client that, like the product's, never repeats a command.
func dial(t testing.TB, addr string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true, DialerRetries: 1, DisableIdentity: true,
		ReadTimeout:              20 * time.Second, // a machine that stands still is no fault of Redis
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (w *world) openSale(id string, stock int64, limit int) {
	w.t.Helper()
	now := time.Now()
	_, err := w.sales.Create(w.ctx, inventory.NewSale{ID: id, Title: "Phone X", SKU: "PHONE-X", Stock: stock,
		PriceCents: 9900, Currency: "CNY",
		PerUserLimit: limit, StartsAt: now.Add(-time.Minute), EndsAt: now.Add(time.Hour), Open: true}, "test")
	require.NoError(w.t, err)
	w.keep()
}

// keep lets reconciler and cache catch up.
func (w *world) keep() {
	w.t.Helper()
	require.NoError(w.t, w.reconciler.Reconcile(w.ctx))
	require.NoError(w.t, w.cache.Refresh(w.ctx))
}

func (w *world) request(user string, units int) queue.Request {
	w.tickets++
	return queue.Request{ID: fmt.Sprintf("order-%04d", w.tickets), User: user, Units: units, Fingerprint: "print",
		Email: user + "@example.com"}
}

// try asks for a place in a line.
func (w *world) try(sale string, r queue.Request) queue.Admission {
	w.t.Helper()
	s, _, err := w.sales.Get(w.ctx, sale)
	require.NoError(w.t, err)
	admissions, err := w.lines.Of(sale).Admit(w.ctx, s.Epoch, 100, []queue.Request{r})
	require.NoError(w.t, err)
	return admissions[0]
}

// admit takes one order into the line.
func (w *world) admit(user string, units int) queue.Ticket {
	w.t.Helper()
	a := w.try(theSale, w.request(user, units))
	require.NoError(w.t, a.Err)
	return a.Ticket
}

// admitMany takes orders of n new users, one unit each.
func (w *world) admitMany(n int) {
	w.t.Helper()
	for range n {
		w.admit(fmt.Sprintf("user-%04d", w.tickets+1), 1)
	}
}

func (w *world) claim(n int) queue.Batch {
	w.t.Helper()
	b, err := w.line.Claim(w.ctx, uuid.NewString(), n, lease)
	require.NoError(w.t, err)
	return b
}

func (w *world) handle(b queue.Batch) map[string]queue.Outcome {
	w.t.Helper()
	outcomes, err := w.fulfiller.Handle(w.ctx, b)
	require.NoError(w.t, err)
	require.Len(w.t, outcomes, len(b.Tickets))
	return byID(outcomes)
}

func byID(outcomes []queue.Outcome) map[string]queue.Outcome {
	all := make(map[string]queue.Outcome, len(outcomes))
	for _, o := range outcomes {
		all[o.ID] = o
	}
	return all
}

func (w *world) settle(b queue.Batch, outcomes map[string]queue.Outcome) {
	w.t.Helper()
	var list []queue.Outcome
	for _, t := range b.Tickets {
		list = append(list, outcomes[t.ID])
	}
	require.NoError(w.t, w.line.Settle(w.ctx, b, list))
}

// work fulfils and settles until the line is empty.
func (w *world) work() {
	w.t.Helper()
	for {
		b := w.claim(queue.MaxBatch)
		if len(b.Tickets) == 0 {
			return
		}
		w.settle(b, w.handle(b))
	}
}

// expire ends the lease of a batch now and makes its tickets claimable again.
func (w *world) expire(b queue.Batch) {
	w.t.Helper()
	require.NoError(w.t, w.rdb.ZAddXX(w.ctx, "sluice:{"+theSale+"/0}:lease", redis.Z{Score: 1, Member: b.ID}).Err())
	_, tickets, err := w.line.Reclaim(w.ctx)
	require.NoError(w.t, err)
	require.EqualValues(w.t, len(b.Tickets), tickets)
}

func (w *world) rows() map[string]order.Row {
	w.t.Helper()
	var rows []order.Row
	require.NoError(w.t, w.db.Read.Find(&rows).Error)
	all := make(map[string]order.Row, len(rows))
	for _, r := range rows {
		all[r.ID] = r
	}
	return all
}

// count counts rows by status.
func (w *world) count() map[string]int {
	w.t.Helper()
	counts := map[string]int{}
	for _, r := range w.rows() {
		counts[r.Status]++
	}
	return counts
}

// news counts outbox rows by event and channel.
func (w *world) news() map[string]int {
	w.t.Helper()
	var rows []notify.Row
	require.NoError(w.t, w.db.Read.Find(&rows).Error)
	counts := map[string]int{}
	for _, r := range rows {
		counts[r.Event+" "+r.Channel]++
	}
	return counts
}

func (w *world) available() int64 {
	w.t.Helper()
	_, stock, err := w.sales.Get(w.ctx, theSale)
	require.NoError(w.t, err)
	return stock.Available
}

func (w *world) view() queue.View {
	w.t.Helper()
	v, err := w.line.View(w.ctx)
	require.NoError(w.t, err)
	return v
}

// clean audits and returns the sale's numbers.
func (w *world) clean() inventory.SaleAudit {
	w.t.Helper()
	result, err := w.auditor.Run(w.ctx, theSale)
	require.NoError(w.t, err)
	require.Equal(w.t, inventory.VerdictClean, result.Verdict, "%+v", result.Sales)
	return result.Sales[0]
}

// ops counts the outcomes by what they say.
func ops(outcomes map[string]queue.Outcome) map[string]int {
	counts := map[string]int{}
	for _, o := range outcomes {
		if o.Op == queue.OpRetry {
			o.Reason = "" // for its history only, in each database's words
		}
		counts[string(o.Op)+o.Reason]++
	}
	return counts
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	require.NoError(w.t, w.db.Write.WithContext(w.ctx).Exec(sql, args...).Error)
}

// running runs something until stop is called, or the test ends.
func (w *world) running(run func(context.Context) error) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-ended)
	})
	w.t.Cleanup(stop)
	return stop
}

// calls counts what Redis was asked by the world's client.
func (w *world) calls() int64 {
	w.t.Helper()
	return w.asked.Load()
}

// verdict is that of an audit of the sale.
func (w *world) verdict() inventory.Verdict {
	w.t.Helper()
	result, err := w.auditor.Run(w.ctx, theSale)
	require.NoError(w.t, err)
	return result.Verdict
}

// counter counts the calls of a client.
type counter struct{ asked *atomic.Int64 }

func (c counter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.asked.Add(1)
		return next(ctx, cmd)
	}
}

func (c counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.asked.Add(1)
		return next(ctx, cmds)
	}
}
