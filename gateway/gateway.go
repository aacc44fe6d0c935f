// Package gateway is both HTTP surfaces of Sluice: the public one, which
// authenticates, limits, admits and tells, and the operations listener with
// health, metrics and the admin API.
package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/api"
	"sluice/gateway/admission"
	"sluice/gateway/auth"
	"sluice/gateway/ratelimit"
	"sluice/gateway/server"
	"sluice/internal/phone"
	"sluice/inventory"
	"sluice/order"
	"sluice/order/lookup"
	"sluice/order/restore"
	"sluice/queue"
)

// Parts are what the gateway stands on.
type Parts struct {
	Auth       *auth.Authenticator
	Limiter    *ratelimit.Limiter
	Lines      *queue.Lines
	SaleCache  *inventory.SaleCache
	Reconciler *inventory.Reconciler
	Finder     *lookup.Finder
	Canceller  *order.Canceller
	Losses     *restore.Losses
	Receipts   *Receipts      // nil: none are given
	Payments   *Payments      // nil: orders need not be paid
	Panics     *server.Panics // nil: the gateway has its own
	Phones     phone.Plan     // how shoppers may write their numbers beside E.164
	// Barred says why this process must not touch the stores; nil, or a nil error: it may.
	Barred func() error
	// Admitted hears of each new order once it is in the line, with when its request began; nil:
	// nobody. It must not block.
	Admitted func(r *http.Request, sale string, t queue.Ticket, since time.Time)
}

// maxWaiters bounds the requests that wait for news at the same time.
const maxWaiters = 100_000

// Gateway is the public HTTP surface. Safe for concurrent use.
type Gateway struct {
	Parts
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	admission *admission.Admitter
	answers   *answers
	refused   *server.RefusalLog
	ids       orderIDs
	status    *statusReader
	hub       *hub
	delivered *deliveredCache
	engine    *gin.Engine
	sales     salesCache
	draining  atomic.Bool
	closed    atomic.Bool   // to new orders, by an operator
	drained   chan struct{} // closed when draining begins
	once      sync.Once
}

// New returns a gateway; its routes are on Handler.
func New(cfg Config, parts Parts, log *slog.Logger, reg prometheus.Registerer, now func() time.Time) (*Gateway, error) {
	proxies, err := cfg.Proxies()
	if err != nil {
		return nil, err
	}
	blocks := make([]string, len(proxies))
	for i, prefix := range proxies {
		blocks[i] = prefix.String()
	}
	engine, err := server.NewEngine(
		server.EngineConfig{TrustedProxies: blocks, AccessLogEvery: cfg.AccessLogEvery}, log, reg, now)
	if err != nil {
		return nil, err
	}
	if parts.Panics == nil {
		parts.Panics = server.NewPanics(log, reg, now)
	}
	g := &Gateway{
		Parts: parts, cfg: cfg, log: log, now: now, engine: engine,
		answers: newAnswers(cfg.BusyURL),
		refused: server.NewRefusalLog(log, now),
		admission: admission.New(admission.Parts{Lines: parts.Lines, Sales: parts.SaleCache,
			Reconciler: parts.Reconciler,
			Finder:     parts.Finder, Panics: parts.Panics}, reg, now),
		status:    newStatusReader(parts.Finder, parts.Panics, now),
		hub:       newHub(parts.Lines, maxWaiters),
		delivered: newDeliveredCache(),
		drained:   make(chan struct{}),
	}
	g.SetAdmission(cfg.Admission)
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_admission_open",
		Help: "1 while this gateway takes new orders, 0 while an operator has stopped them."}, func() float64 {
		if g.closed.Load() {
			return 0
		}
		return 1
	}))
	g.routes()
	return g, nil
}

func (g *Gateway) routes() {
	g.engine.GET("/openapi.json", g.openAPI)
	g.engine.GET("/v1/sales", g.listSales)
	g.engine.GET("/v1/sales/:sale", g.showSale)
	g.engine.POST("/v1/sales/:sale/orders", g.unbarred, g.placeOrder)
	g.engine.GET("/v1/sales/:sale/orders/:id", g.unbarred, g.showOrder)
	g.engine.GET("/v1/sales/:sale/orders/:id/events", g.unbarred, g.followOrder)
	g.engine.DELETE("/v1/sales/:sale/orders/:id", g.unbarred, g.cancelOrder)
	g.engine.POST("/v1/sales/:sale/orders/:id/payment", g.unbarred, g.payOrder)
	g.engine.GET("/v1/orders", g.unbarred, g.listOrders)
}

// unbarred answers requests about orders while this process must not touch the stores: another gateway does.
func (g *Gateway) unbarred(c *gin.Context) {
	if g.Barred != nil && g.Barred() != nil {
		api.WriteProblem(c, g.problemOf(queue.ErrNotReady))
	}
}

// PlainRequest names the requests of a sale's rush, which are answered at once: placing an order,
// asking for it, looking at the sale. What waits or streams has a query, or a path that says so.
func PlainRequest(method, path string) bool {
	if !strings.HasPrefix(path, "/v1/sales/") {
		return false
	}
	if method == http.MethodPost {
		return strings.HasSuffix(path, "/orders")
	}
	return method == http.MethodGet && !strings.HasSuffix(path, "/events")
}

// Handler answers the public listener.
func (g *Gateway) Handler() *gin.Engine { return g.engine }

// Run hears the news of orders until ctx ends, and returns when no call to a
// store is in flight. Stop it after the server: until then requests may make
// further calls.
func (g *Gateway) Run(ctx context.Context) {
	var listeners sync.WaitGroup
	listeners.Go(func() {
		g.Panics.Run(ctx, "news of stock", func(ctx context.Context) {
			g.Lines.ListenStock(ctx, g.admission.ForgetRefusal)
		})
	})
	listeners.Go(func() { g.Panics.Run(ctx, "forgetting", g.forgetIdle) })
	g.Panics.Run(ctx, "news of orders", g.hub.run)
	listeners.Wait()
	g.admission.WaitAll()
	g.status.wait()
}

// forgetIdle lets go of what nobody uses any more, until ctx ends.
func (g *Gateway) forgetIdle(ctx context.Context) {
	ticker := time.NewTicker(admission.ForgetEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			g.forget()
		case <-ctx.Done():
			return
		}
	}
}

// forget lets go of what is kept for sales that nobody asks for any more.
func (g *Gateway) forget() {
	g.admission.Forget()
	g.status.forget()
}

// Drain makes new orders answer unavailable, ends long polls and event
// streams, and returns when no admission is in flight: everything accepted
// has been answered by then, or is about to be. Orders can still be read.
func (g *Gateway) Drain() {
	g.once.Do(func() {
		g.draining.Store(true)
		close(g.drained)
	})
	g.admission.Wait()
}

// SetAdmission stops or allows new orders of all sales. Accepted ones go on.
func (g *Gateway) SetAdmission(open bool) { g.closed.Store(!open) }

// Draining reports whether Drain was called.
func (g *Gateway) Draining() bool { return g.draining.Load() }

// Refused returns how many orders of each sale this gateway refuses a second. Its window is about the last five
// seconds in which it was called once a second. Sales without refusals are absent, and so are all but the 64 busiest.
func (g *Gateway) Refused() map[string]float64 { return g.admission.RefusalRates() }
