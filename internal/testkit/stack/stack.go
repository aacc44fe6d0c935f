// Package stack builds the whole way of an order for tests. It has both listeners, the stores behind them, and the
// loops between. The tests of gateway and of admin share it.
package stack

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/admin"
	"sluice/api"
	"sluice/delay"
	"sluice/delay/message"
	"sluice/gateway"
	"sluice/gateway/auth"
	"sluice/gateway/ratelimit"
	"sluice/gateway/server"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/inventory/reconcile"
	"sluice/order/payment"
	"sluice/queue"
	"sluice/store"
)

// Secret signs the tokens that a stack takes.
const Secret = "0123456789abcdef0123456789abcdef" // #nosec G101 -- of tests

// Patience is how long a test waits for what must come; it is spent only where something has failed.
const Patience = time.Minute

// Auth configures how a stack recognises its users.
func Auth() auth.Config { return auth.Config{Mode: auth.ModeJWT, Secret: Secret} }

// NewUUID makes an id that nobody has.
func NewUUID() string { return uuid.Must(uuid.NewV7()).String() }

// QuietLog makes a log that nobody reads.
func QuietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Setup is what a test may change of a stack.
type Setup struct {
	Gateway  gateway.Config
	Limits   ratelimit.Config
	HTTP     server.HTTPConfig
	Delay    delay.Config
	Redis    string           // where the product finds Redis; "" starts an embedded one
	Direct   string           // where the test finds it; "" is the same place
	Now      func() time.Time // the gateway's own clock
	Still    bool             // neither reconciler nor sale cache run by themselves
	Checks   []admin.Check
	Payments payment.Config // zero: orders need not be paid
	Settings admin.Settings
}

// Quiet makes a stack whose loops ask Redis nothing, so that a test may count what its own requests ask.
func Quiet(c *Setup) { c.Still = true }

// Stack is the whole way of an order behind both listeners, on ports of its own.
type Stack struct {
	T          testing.TB
	Redis      *redis.Client // the test's own
	DB         *store.DB
	Lines      *queue.Lines
	SaleStore  *inventory.SaleStore
	SaleCache  *inventory.SaleCache
	Reconciler *reconcile.Reconciler
	Auditor    *audit.Auditor
	Gateway    *gateway.Gateway
	Limiter    *ratelimit.Limiter
	Registry   *prometheus.Registry
	Draining   atomic.Bool // as the operations listener is told
	Addr       string      // of the public listener
	OpsAddr    string
	OpsEngine  *gin.Engine

	trips    testkit.Trips // of Redis, by the product
	topics   *delay.Topics
	messages *message.Store
	payments payment.Config
	public   *http.Client // checks every answer against the public document
	ops      *http.Client
}

// New starts a stack; it ends with the test.
func New(t testing.TB, edits ...func(*Setup)) *Stack {
	t.Helper()
	c := Setup{Gateway: gateway.DefaultConfig(), HTTP: server.DefaultHTTPConfig(), Delay: delay.DefaultConfig(),
		Now: time.Now}
	for _, edit := range edits {
		edit(&c)
	}
	if c.Redis == "" {
		c.Redis = testkit.Embedded(t).Addr()
	}
	if c.Direct == "" {
		c.Direct = c.Redis
	}
	s := &Stack{T: t, Redis: testkit.RedisClient(t, c.Direct), Registry: prometheus.NewRegistry(), payments: c.Payments}
	s.openStores(c)
	s.openParts(c)
	s.serve(c)
	return s
}

// Rounds returns how many round trips to Redis the product has made.
func (s *Stack) Rounds() int64 { return s.trips.Rounds.Load() }

// Asked counts the round trips to Redis that the product makes while f runs.
func (s *Stack) Asked(f func()) int64 {
	before := s.Rounds()
	f()
	return s.Rounds() - before
}

func (s *Stack) openStores(c Setup) {
	rdb := testkit.ProductClient(s.T, c.Redis)
	rdb.AddHook(&s.trips)
	s.Lines = queue.NewLines(rdb, queue.DefaultPrefix)
	s.messages = message.NewStore(message.StoreParts{Config: c.Delay, Places: message.Only(rdb, queue.DefaultPrefix),
		Now: time.Now})
	s.DB = tables.Open(s.T, tables.New(s.T, store.SQLite))
}

// serve starts both listeners. Requests end before the loops do.
func (s *Stack) serve(c Setup) {
	s.OpsAddr = Serve(s.T, server.DefaultHTTPConfig(), s.OpsEngine)
	s.ops = CheckedClient(s.T, api.OpenAPIOps())
	if !c.Still {
		s.Run(s.Reconciler.Run)
		s.Run(s.SaleCache.Run)
	}
	s.Run(s.Gateway.Run)
	s.Addr = Serve(s.T, c.HTTP, s.Gateway.Handler())
	s.public = CheckedClient(s.T, api.OpenAPI())
}

// Run ends f with the test, or when it is stopped before.
func (s *Stack) Run(f func(context.Context)) (stop func()) {
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
	s.T.Cleanup(stop)
	return stop
}

// Serve answers with h on a free port until the test ends, and returns the address.
func Serve(t testing.TB, cfg server.HTTPConfig, h http.Handler) string {
	t.Helper()
	ln, err := server.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	srv := server.NewServer(cfg, h, nil, gateway.PlainRequest, QuietLog())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.NoError(t, <-served)
	})
	return ln.Addr().String()
}
