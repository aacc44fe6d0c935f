package inventory_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
	"sluice/store/schema"
)

const (
	theSale    = "sale"
	defaultCap = 5000
	long       = 10 * time.Minute // a lease that stands for the whole test
	soon       = 20 * time.Second
)

// world is a database and a Redis with every part around them.
type world struct {
	t          *testing.T
	ctx        context.Context
	db         *store.DB
	addr       string // of Redis
	rdb        *redis.Client
	lines      *queue.Lines
	line       *queue.Line
	clock      *testkit.Clock
	saleStore  *inventory.SaleStore
	cache      *inventory.SaleCache
	reconciler *inventory.Reconciler
	auditor    *inventory.Auditor
	fulfiller  *order.Fulfiller
	canceller  *order.Canceller
	tickets    int // admitted so far
}

// eachDatabase runs a test on every database, each with an in-process Redis.
func eachDatabase(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			test(newWorld(t, d, testkit.Embedded(t).Addr()))
		})
	}
}

// onSQLite runs a test whose point has nothing to do with dialects.
func onSQLite(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return newWorld(t, tables.New(t, store.SQLite), testkit.Embedded(t).Addr())
}

func newWorld(t *testing.T, d testkit.Database, addr string) *world {
	t.Helper()
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = d.Driver, d.DSN
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), cfg, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = schema.Of(db).Migrate(t.Context())
	require.NoError(t, err)

	w := &world{t: t, ctx: t.Context(), db: db, rdb: dial(t, addr), clock: testkit.NewClock(time.Now()), addr: addr}
	w.lines = queue.NewLines(w.rdb, queue.DefaultPrefix)
	w.line = w.lines.Of(theSale)
	w.saleStore = inventory.NewSaleStore(db, w.clock.Now)
	w.cache = inventory.NewSaleCache(w.saleStore, w.lines, log, w.clock.Now)
	w.reconciler = w.newReconciler(w.clock)
	w.auditor = inventory.NewAuditor(db, w.lines, time.Hour, w.clock.Now)
	channels := []string{"stream"}
	w.fulfiller = order.NewFulfiller(order.FulfillerParts{
		DB: db, Sales: w.saleStore, Cache: w.cache, Deadline: 0, Channels: channels,
		OnCommit: func() {}, Log: log, Now: time.Now,
	})
	w.canceller = order.NewCanceller(order.CancellerParts{
		DB: db, Lines: w.lines, Reconciler: w.reconciler, Channels: channels, OnCommit: func() {},
		Log: log, Now: time.Now,
	})
	return w
}

// newReconciler is the reconciler of another instance, with a clock of its own.
func (w *world) newReconciler(clock *testkit.Clock) *inventory.Reconciler {
	return inventory.NewReconciler(w.db, w.lines, defaultCap, slog.New(slog.DiscardHandler), clock.Now)
}

// loseLine deletes the line of a sale, as a Redis without its data has it.
func (w *world) loseLine(sale string) {
	w.t.Helper()
	keys, err := w.rdb.Keys(w.ctx, "sluice:{"+sale+"/0}:*").Result()
	require.NoError(w.t, err)
	require.NotEmpty(w.t, keys)
	require.NoError(w.t, w.rdb.Del(w.ctx, keys...).Err())
}

// dial opens a client that, like the product's, never repeats a command.
func dial(t *testing.T, addr string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true, DialerRetries: 1, DisableIdentity: true,
		ReadTimeout:              20 * time.Second, // a machine that stands still is no fault of Redis
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// newSale is a sale that is open for an hour.
func newSale(id string, stock int64, limit int) inventory.NewSale {
	now := time.Now()
	return inventory.NewSale{ID: id, Title: "Phone X", SKU: "PHONE-X", Stock: stock, PriceCents: 9900, Currency: "CNY",
		PerUserLimit: limit,
		StartsAt:     now.Add(-time.Minute), EndsAt: now.Add(time.Hour), Open: true}
}

func (w *world) create(n inventory.NewSale) inventory.Sale {
	w.t.Helper()
	sale, err := w.saleStore.Create(w.ctx, n, "test")
	require.NoError(w.t, err)
	return sale
}

// open creates the sale and loads its line.
func (w *world) open(stock int64, limit int) {
	w.t.Helper()
	w.create(newSale(theSale, stock, limit))
	w.keep()
}

func (w *world) keep() {
	w.t.Helper()
	require.NoError(w.t, w.reconciler.Reconcile(w.ctx))
	require.NoError(w.t, w.cache.Refresh(w.ctx))
}

func (w *world) try(user string, units int) (queue.Admission, error) {
	w.t.Helper()
	w.tickets++
	sale, _, err := w.saleStore.Get(w.ctx, theSale)
	require.NoError(w.t, err)
	r := queue.Request{ID: fmt.Sprintf("order-%05d", w.tickets), User: user, Units: units, Fingerprint: "print",
		Email: user + "@example.com"}
	admissions, err := w.line.Admit(w.ctx, sale.Epoch, 100, []queue.Request{r})
	if err != nil {
		return queue.Admission{}, err
	}
	return admissions[0], nil
}

func (w *world) admit(user string, units int) queue.Ticket {
	w.t.Helper()
	a, err := w.try(user, units)
	require.NoError(w.t, err)
	require.NoError(w.t, a.Err)
	return a.Ticket
}

// admitMany takes orders of n new users, one unit each.
func (w *world) admitMany(n int) []queue.Ticket {
	w.t.Helper()
	sale, _ := w.get()
	var tickets []queue.Ticket
	for len(tickets) < n {
		var requests []queue.Request
		for range min(n-len(tickets), queue.MaxAdmit) {
			w.tickets++
			requests = append(requests, queue.Request{ID: fmt.Sprintf("order-%05d", w.tickets),
				User: fmt.Sprintf("user-%05d", w.tickets), Units: 1, Fingerprint: "print"})
		}
		admissions, err := w.line.Admit(w.ctx, sale.Epoch, 100, requests)
		require.NoError(w.t, err)
		for _, a := range admissions {
			require.NoError(w.t, a.Err)
			tickets = append(tickets, a.Ticket)
		}
	}
	return tickets
}

func (w *world) claim(n int) queue.Batch {
	w.t.Helper()
	b, err := w.line.Claim(w.ctx, uuid.NewString(), n, long)
	require.NoError(w.t, err)
	return b
}

// work fulfils and settles up to n tickets.
func (w *world) work(n int) {
	w.t.Helper()
	for n > 0 {
		b := w.claim(n)
		if len(b.Tickets) == 0 {
			return
		}
		outcomes, err := w.fulfiller.Handle(w.ctx, b)
		require.NoError(w.t, err)
		require.NoError(w.t, w.line.Settle(w.ctx, b, outcomes))
		n -= len(b.Tickets)
	}
}

func (w *world) view() queue.View {
	w.t.Helper()
	v, err := w.line.View(w.ctx)
	require.NoError(w.t, err)
	return v
}

func (w *world) get() (inventory.Sale, inventory.Stock) {
	w.t.Helper()
	sale, stock, err := w.saleStore.Get(w.ctx, theSale)
	require.NoError(w.t, err)
	return sale, stock
}

func (w *world) audit() inventory.SaleAudit {
	w.t.Helper()
	result, err := w.auditor.Run(w.ctx, theSale)
	require.NoError(w.t, err)
	require.Len(w.t, result.Sales, 1)
	require.Equal(w.t, result.Verdict, result.Sales[0].Verdict)
	require.Equal(w.t, result.Verdict == inventory.VerdictClean, result.Sales[0].Clean)
	return result.Sales[0]
}

func (w *world) clean() inventory.SaleAudit {
	w.t.Helper()
	r := w.audit()
	require.True(w.t, r.Clean, "%+v", r)
	return r
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	require.NoError(w.t, w.db.Write.Exec(sql, args...).Error)
}

func key(name string) string { return "sluice:{" + theSale + "/0}:" + name }
