// Package gateway has the public routes of Sluice: they authenticate, limit and admit orders, and answer with their
// status.
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
	"sluice/inventory/reconcile"
	"sluice/order"
	"sluice/order/lookup"
	"sluice/order/restore"
	"sluice/queue"
)

// Parts is what a Gateway needs.
type Parts struct {
	Auth       *auth.Authenticator
	Limiter    *ratelimit.Limiter
	Lines      *queue.Lines
	SaleCache  *inventory.SaleCache
	Reconciler *reconcile.Reconciler
	Finder     *lookup.Finder
	Canceller  *order.Canceller
	Losses     *restore.Losses
	Receipts   *Receipts      // nil: there are no receipts
	Payments   *Payments      // nil: orders need not be paid
	Panics     *server.Panics // nil: the gateway creates its own
	Phones     phone.Plan     // how shoppers may write their numbers beside E.164
	// Barred returns why this process must not use the stores. It may be nil or return nil.
	Barred func() error
	// Admitted is called for each new order in the line, with the start of its request. It may be nil and must not
	// block.
	Admitted func(r *http.Request, sale string, t queue.Ticket, since time.Time)
}

// maxWaiters bounds the requests that wait for changes at the same time.
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
	closed    atomic.Bool   // an operator has stopped new orders
	drained   chan struct{} // closed when Drain begins
	once      sync.Once
}

// New returns a Gateway, whose routes Handler has.
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

// unbarred answers 503, as a middleware, while this process must not use the stores.
func (g *Gateway) unbarred(c *gin.Context) {
	if g.Barred != nil && g.Barred() != nil {
		api.WriteProblem(c, g.problemOf(queue.ErrNotReady))
	}
}

// PlainRequest reports whether a request is a plain one of a rush. These place or read an order, or read a sale.
// Requests that wait or stream have a query or another path.
func PlainRequest(method, path string) bool {
	if !strings.HasPrefix(path, "/v1/sales/") {
		return false
	}
	if method == http.MethodPost {
		return strings.HasSuffix(path, "/orders")
	}
	return method == http.MethodGet && !strings.HasSuffix(path, "/events")
}

// Handler returns the handler of the public listener.
func (g *Gateway) Handler() *gin.Engine { return g.engine }

// Run receives changes of orders until ctx ends, and returns when no call of a store is in flight. Stop it after the
// server, because requests may make further calls.
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

// forgetIdle drops unused state regularly, until ctx ends.
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

// forget drops the state of sales that nobody requests any more.
func (g *Gateway) forget() {
	g.admission.Forget()
	g.status.forget()
}

// Drain refuses new orders as unavailable, ends long polls and event streams, and returns when no admission is in
// flight. Orders can still be read.
func (g *Gateway) Drain() {
	g.once.Do(func() {
		g.draining.Store(true)
		close(g.drained)
	})
	g.admission.Wait()
}

// SetAdmission stops or allows new orders of all sales. Accepted orders go on.
func (g *Gateway) SetAdmission(open bool) { g.closed.Store(!open) }

// Draining reports whether Drain was called.
func (g *Gateway) Draining() bool { return g.draining.Load() }

// Refused returns how many orders of each sale this gateway refuses a second. Called once a second, it measures over
// about five seconds. Only the 64 busiest sales with refusals are present.
func (g *Gateway) Refused() map[string]float64 { return g.admission.RefusalRates() }
