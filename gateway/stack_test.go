package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"sluice/admin"
	"sluice/adminlog"
	"sluice/api"
	"sluice/delay"
	"sluice/fleet"
	"sluice/gateway/auth"
	"sluice/gateway/ratelimit"
	"sluice/gateway/server"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/notify"
	"sluice/notify/channel"
	"sluice/order"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/store"
	"sluice/store/schema"
)

// patience is how long a test waits for what must come.
const testSecret = "0123456789abcdef0123456789abcdef"

// testNow is when the clock of tests stands still.
var testNow = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

func fixedClock() time.Time { return testNow }

func secretConfig() auth.Config { return auth.Config{Mode: auth.ModeJWT, Secret: testSecret} }

const patience = time.Minute

func newUUID() string { return uuid.Must(uuid.NewV7()).String() }

// setup is what a test may change of a stack.
type setup struct {
	gateway  Config
	limits   ratelimit.Config
	http     server.HTTPConfig
	delay    delay.Config
	redis    string           // where the product finds Redis; "" starts an embedded one
	direct   string           // where the test finds it; "" is the same place
	now      func() time.Time // the gateway's own clock
	still    bool             // neither reconciler nor book run by themselves
	checks   []admin.Check
	payments order.PaymentConfig // zero: orders need not be paid
	settings admin.Settings
}

// stack is the whole way of an order behind both listeners, on a port of its own.
type stack struct {
	t          testing.TB
	rdb        *redis.Client // the test's own
	db         *store.DB
	lines      *queue.Lines
	saleStore  *inventory.SaleStore
	saleCache  *inventory.SaleCache
	reconciler *inventory.Reconciler
	auditor    *inventory.Auditor
	topics     *delay.Topics
	messages   *delay.Store
	gateway    *Gateway
	limiter    *ratelimit.Limiter
	payments   order.PaymentConfig
	reg        *prometheus.Registry
	trips      testkit.Trips // of Redis, by the product
	down       atomic.Bool   // draining, as the operations listener is told
	addr       string
	opsAddr    string
	opsEngine  *gin.Engine
	client     *http.Client // checks every answer against the public document
	ops        *http.Client
}

func newStack(t testing.TB, edits ...func(*setup)) *stack {
	t.Helper()
	c := setup{gateway: DefaultConfig(), http: server.DefaultHTTPConfig(), delay: delay.DefaultConfig(), now: time.Now}
	for _, edit := range edits {
		edit(&c)
	}
	if c.redis == "" {
		c.redis = testkit.Embedded(t).Addr()
	}
	if c.direct == "" {
		c.direct = c.redis
	}
	s := &stack{t: t, rdb: testkit.RedisClient(t, c.direct), reg: prometheus.NewRegistry()}
	s.openStores(c)
	s.openParts(c)
	s.serve(c)
	return s
}

func (s *stack) openStores(c setup) {
	rdb := redis.NewClient(&redis.Options{
		Addr: c.redis, MaxRetries: -1, ContextTimeoutEnabled: true, DialerRetries: 1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	rdb.AddHook(&s.trips)
	s.t.Cleanup(func() { _ = rdb.Close() })
	s.lines = queue.NewLines(rdb, queue.DefaultPrefix)
	s.messages = delay.NewStore(delay.StoreParts{Config: c.delay, Redis: rdb, Prefix: queue.DefaultPrefix,
		Durable: func() error { return nil }, Now: time.Now})
	database := tables.New(s.t, "sqlite")
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = database.Driver, database.DSN
	db, err := store.Open(s.t.Context(), cfg, quietLog())
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = db.Close() })
	_, err = schema.Of(db).Migrate(s.t.Context())
	require.NoError(s.t, err)
	s.db = db
}

func (s *stack) openParts(c setup) {
	s.saleStore = inventory.NewSaleStore(s.db, time.Now)
	s.saleCache = inventory.NewSaleCache(s.saleStore, s.lines, quietLog(), time.Now)
	s.reconciler = inventory.NewReconciler(s.db, s.lines, 1000, quietLog(), time.Now)
	s.auditor = inventory.NewAuditor(s.db, s.lines, time.Hour, time.Now)
	s.topics = delay.NewTopics(delay.TopicsParts{Config: c.delay, DB: s.db, Messages: s.messages, Log: quietLog(),
		Now: time.Now})
	s.limiter = ratelimit.New(c.limits, time.Now)
	finder := order.NewFinder(s.db, s.lines, s.saleCache)
	canceller := order.NewCanceller(order.CancellerParts{
		DB: s.db, Lines: s.lines, Reconciler: s.reconciler, Channels: []string{"stream"},
		OnCommit: func() {}, Log: quietLog(), Now: time.Now,
	})
	losses := order.NewLosses(order.LossesParts{
		DB: s.db, Lines: s.lines, Channels: []string{"stream"}, OnCommit: func() {},
		Log: quietLog(), Now: s.saleCache.Now, Metrics: s.reg,
	})
	s.payments = c.payments
	authenticator, err := auth.NewAuthenticator(secretConfig(), nil, time.Now)
	require.NoError(s.t, err)
	s.gateway, err = New(c.gateway, Parts{Auth: authenticator, Receipts: testReceipts(s.t), Limiter: s.limiter,
		Lines: s.lines, SaleCache: s.saleCache, Reconciler: s.reconciler,
		Finder: finder, Canceller: canceller, Losses: losses, Payments: s.payDesk()}, quietLog(), s.reg, c.now)
	require.NoError(s.t, err)
	adminLog := adminlog.New(s.db, quietLog(), time.Now, 0)
	ops := admin.New(admin.Parts{Auth: authenticator, SaleStore: s.saleStore, AdminLog: adminLog,
		Dead: order.NewDeadLetters(s.db, s.lines, adminLog), SaleCache: s.saleCache, Reconciler: s.reconciler,
		Auditor: s.auditor,
		Lines:   s.lines, Lease: queue.DefaultConfig().Lease, Finder: finder,
		Timelines: order.NewTimelines(s.db, s.lines, finder),
		Outbox:    notify.NewAdmin(s.db.Write, s.db.Read, time.Now, func() {}),
		Events:    channel.NewStream(channel.DefaultStreamConfig().Behind("sluice"), s.rdb),
		Topics:    s.topics, Messages: s.messages, Settings: c.settings,
		Beats: fleet.NewInstances(s.rdb, queue.DefaultPrefix, quietLog()), Checks: c.checks,
		Gatherer: s.reg, Draining: s.down.Load}, quietLog(), time.Now)
	s.opsEngine = ops
	s.opsAddr, _ = startServer(s.t, server.DefaultHTTPConfig(), s.opsEngine)
	s.ops = s.checkedClient(api.OpenAPIOps())
	if !c.still {
		s.run(s.reconciler.Run)
		s.run(s.saleCache.Run)
	}
}

// serve runs the public listener, which ends before the loops do.
func (s *stack) serve(c setup) {
	s.run(s.gateway.Run)
	s.addr, _ = startServer(s.t, c.http, s.gateway.Handler())
	s.client = s.checkedClient(api.OpenAPI())
}

// run ends f with the test, or when it is stopped before.
func (s *stack) run(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	s.t.Cleanup(stop)
	return stop
}

// work starts the workers that fulfil orders and returns how to stop them.
func (s *stack) work() (stop func()) {
	s.t.Helper()
	fulfiller := order.NewFulfiller(order.FulfillerParts{
		DB: s.db, Sales: s.saleStore, Cache: s.saleCache, Deadline: s.payments.Deadline(),
		Channels: []string{"stream"}, OnCommit: func() {}, Log: quietLog(), Now: time.Now,
	})
	consumer, err := worker.New(worker.Options{
		Config: queue.DefaultConfig(), Pool: worker.DefaultPoolConfig(), Lines: s.lines, Sales: s.saleCache.Active,
		Handler: fulfiller, Log: quietLog(), Now: time.Now, Metrics: s.reg,
	})
	require.NoError(s.t, err)
	return s.run(func(ctx context.Context) { _ = consumer.Run(ctx) })
}

// sell makes a sale that both listeners know, open for an hour unless edited.
func (s *stack) sell(id string, stock int64, edits ...func(*inventory.NewSale)) {
	s.t.Helper()
	n := inventory.NewSale{
		ID: id, Title: "Phone X", SKU: "PHONE-X", Stock: stock, PriceCents: 9900, Currency: "CNY", PerUserLimit: 1,
		StartsAt: time.Now().Add(-time.Minute), EndsAt: time.Now().Add(time.Hour), Open: true,
	}
	for _, edit := range edits {
		edit(&n)
	}
	_, err := s.saleStore.Create(s.t.Context(), n, "test")
	require.NoError(s.t, err)
	s.carry()
}

// carry brings what changed in the database to the line and the sale cache.
func (s *stack) carry() {
	s.t.Helper()
	require.NoError(s.t, s.reconciler.SyncLine(s.t.Context(), ""))
	require.NoError(s.t, s.saleCache.Refresh(s.t.Context()))
}

func (s *stack) setState(sale, state string) {
	s.t.Helper()
	_, _, err := s.saleStore.SetState(s.t.Context(), sale, state, "test", "")
	require.NoError(s.t, err)
	s.carry()
}

func (s *stack) token(user string, admin bool) string {
	s.t.Helper()
	token, err := auth.Mint(secretConfig(), user, admin, time.Hour, time.Now())
	require.NoError(s.t, err)
	return token
}

// clean holds both stores against each other.
func (s *stack) clean() {
	s.t.Helper()
	result, err := s.auditor.Run(s.t.Context(), "")
	require.NoError(s.t, err)
	require.Equal(s.t, inventory.VerdictClean, result.Verdict, "%+v", result)
}

func (s *stack) view(sale string) queue.View {
	s.t.Helper()
	v, err := s.lines.Of(sale).View(s.t.Context())
	require.NoError(s.t, err)
	return v
}

// record is what Redis itself holds of an order; "" when it holds none.
func (s *stack) record(sale, id string) string {
	s.t.Helper()
	text, err := s.rdb.HGet(s.t.Context(), "sluice:{"+sale+"/0}:orders", id).Result()
	if err != redis.Nil {
		require.NoError(s.t, err)
	}
	return text
}

// got is an answer read to its end.
type got struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
}

func (g got) text(member string) string { text, _ := g.body[member].(string); return text }
func (g got) num(member string) int64   { n, _ := g.body[member].(float64); return int64(n) }
func (g got) retryAfter() int           { n, _ := strconv.Atoi(g.header.Get("Retry-After")); return n }

// fetch sends a request and reads the answer; it may be called from any goroutine.
func fetch(ctx context.Context, client *http.Client, method, url, token, body string, header ...string) (got, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return got{}, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		return got{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	g := got{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if err == nil && bytes.HasPrefix(raw, []byte("{")) {
		err = json.Unmarshal(raw, &g.body)
	}
	return g, err
}

// do asks the public listener as a user; "" is nobody.
func (s *stack) do(user, method, path, body string, header ...string) got {
	s.t.Helper()
	token := ""
	if user != "" {
		token = s.token(user, false)
	}
	g, err := fetch(s.t.Context(), s.client, method, "http://"+s.addr+path, token, body, header...)
	require.NoError(s.t, err)
	return g
}

func (s *stack) order(user, sale, body string, header ...string) got {
	s.t.Helper()
	return s.do(user, http.MethodPost, "/v1/sales/"+sale+"/orders", body, header...)
}

// place orders one unit, which must succeed, and returns the order's path.
func (s *stack) place(user, sale string, header ...string) string {
	s.t.Helper()
	g := s.order(user, sale, "", header...)
	require.Equal(s.t, http.StatusAccepted, g.status, g.raw)
	return g.header.Get("Location")
}

func (s *stack) get(user, path string, header ...string) got {
	s.t.Helper()
	return s.do(user, http.MethodGet, path, "", header...)
}

// refused requires a problem document of this code.
func (s *stack) refused(code api.Code, g got) got {
	s.t.Helper()
	require.Equal(s.t, string(code), g.text("code"), g.raw)
	require.Equal(s.t, api.NewProblem(code, "").Status, g.status, g.raw)
	return g
}

// until waits for the order to have the status and returns it.
func (s *stack) until(user, path, status string) got {
	s.t.Helper()
	var g got
	require.Eventually(s.t, func() bool {
		g = s.get(user, path)
		return g.text("status") == status
	}, patience, 10*time.Millisecond, "never became %s", status)
	return g
}

// admin asks the operations listener as an administrator.
func (s *stack) admin(method, path, body string) got {
	s.t.Helper()
	return s.opsAs(s.token("root", true), method, path, body)
}

func (s *stack) opsAs(token, method, path, body string) got {
	s.t.Helper()
	g, err := fetch(s.t.Context(), s.ops, method, "http://"+s.opsAddr+path, token, body)
	require.NoError(s.t, err)
	return g
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// startServer serves h on a free port and stops it with the test.
func startServer(t testing.TB, cfg server.HTTPConfig, h http.Handler) (string, *server.Server) {
	t.Helper()
	ln, err := server.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	srv := server.NewServer(cfg, h, nil, PlainRequest, quietLog())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.NoError(t, <-served)
	})
	return ln.Addr().String(), srv
}

func dial(t *testing.T, addr, first string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, first)
	require.NoError(t, err)
	return conn
}
