package admission

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/gateway/server"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/order/lookup"
	"sluice/queue"
	"sluice/store"
	storeredis "sluice/store/redis"
)

func TestMain(m *testing.M) {
	storeredis.LogClient(quietLog())
	testkit.VerifyMain(m, tables.Clear)
}

// patience bounds waits for what must happen; passing tests do not use it up.
const patience = time.Minute

func newUUID() string { return uuid.Must(uuid.NewV7()).String() }

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// world is an Admitter with its stores, without loops that call Redis.
type world struct {
	t          *testing.T
	rdb        *redis.Client // the test's own
	trips      testkit.Trips // of the Admitter to Redis
	lines      *queue.Lines
	sales      *inventory.SaleStore
	cache      *inventory.SaleCache
	reconciler *reconcile.Reconciler
	panics     *server.Panics
	admitter   *Admitter
	ahead      time.Duration // by which the Admitter's clock is ahead
}

func newWorld(t *testing.T) *world {
	t.Helper()
	addr := testkit.Embedded(t).Addr()
	w := &world{t: t, rdb: testkit.RedisClient(t, addr)}
	rdb := testkit.RedisClient(t, addr)
	rdb.AddHook(&w.trips)
	w.lines = queue.NewLines(rdb, queue.DefaultPrefix)
	db := tables.Open(t, tables.New(t, store.SQLite))
	w.sales = inventory.NewSaleStore(db, time.Now)
	w.cache = inventory.NewSaleCache(w.sales, w.lines, quietLog(), time.Now)
	w.reconciler = reconcile.New(db, w.lines, 1000, quietLog(), time.Now)
	reg := prometheus.NewRegistry()
	w.panics = server.NewPanics(quietLog(), reg, time.Now)
	w.admitter = New(Parts{Lines: w.lines, Sales: w.cache, Reconciler: w.reconciler,
		Finder: lookup.NewFinder(db, w.lines, w.cache), Panics: w.panics}, reg,
		func() time.Time { return time.Now().Add(w.ahead) })
	t.Cleanup(w.admitter.WaitAll)
	return w
}

// sell opens a sale that admits now.
func (w *world) sell(id string, stock int64) inventory.Sale {
	w.t.Helper()
	_, err := w.sales.Create(w.t.Context(), inventory.NewSale{
		ID: id, Title: "Phone X", SKU: "PHONE-X", Stock: stock, PriceCents: 9900, Currency: "CNY", PerUserLimit: 1,
		StartsAt: time.Now().Add(-time.Minute), EndsAt: time.Now().Add(time.Hour), Open: true,
	}, "test")
	require.NoError(w.t, err)
	require.NoError(w.t, w.reconciler.SyncLine(w.t.Context(), ""))
	require.NoError(w.t, w.cache.Refresh(w.t.Context()))
	entry, ok := w.cache.Get(id)
	require.True(w.t, ok)
	return entry.Sale
}

// ask returns a request for one unit.
func ask(user string) queue.Request {
	return queue.Request{ID: newUUID(), User: user, Units: 1, Fingerprint: "f"}
}

// place admits an order and returns its id.
func (w *world) place(user, sale string) string {
	w.t.Helper()
	admitted, err := w.admitter.Admit(w.t.Context(), sale, ask(user))
	require.NoError(w.t, err)
	return admitted.Ticket.ID
}

func (w *world) cancel(sale, id, user string) {
	w.t.Helper()
	require.NoError(w.t, w.lines.Of(sale).Cancel(w.t.Context(), id, user))
}

// refuseLocally sends requests of new users until the Admitter refuses one without Redis.
func (w *world) refuseLocally(want error, sale inventory.Sale) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		stranger := newUUID()
		if err := w.admitter.Refusal(sale, stranger); err != nil {
			require.ErrorIs(w.t, err, want)
			return true
		}
		_, err := w.admitter.Admit(w.t.Context(), sale.ID, ask(stranger))
		require.ErrorIs(w.t, err, want)
		return false
	}, patience, time.Millisecond, "every refusal asks Redis")
}
