package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/adminlog"
	"sluice/api"
	"sluice/delay"
	"sluice/gateway/auth"
	"sluice/gateway/server"
	"sluice/inventory"
	"sluice/notify"
	"sluice/notify/channel"
	"sluice/order"
	"sluice/queue"
	"sluice/settings"
)

// Check is one thing readiness depends on.
type Check struct {
	Name string
	Ask  func(ctx context.Context) error
	Note func() string // what a passed check adds to its line; may be nil
}

// OpsParts are what the operations listener stands on.
type OpsParts struct {
	Auth      *auth.Authenticator
	Catalog   *inventory.Catalog
	AdminLog  *adminlog.Log
	Book      *inventory.Book
	Keeper    *inventory.Keeper
	Auditor   *inventory.Auditor
	Lines     *queue.Lines
	Lease     time.Duration // of a batch: queue.lease
	Finder    *order.Finder
	Dead      *order.DeadLetters
	Outbox    *notify.Admin
	Events    *channel.Stream
	Timelines *order.Timelines
	Topics    *delay.Topics
	Messages  *delay.Store
	Settings  Settings
	Beats     *queue.Instances
	Checks    []Check
	Barred    func() error // why this process must not change the stores; nil, or a nil error: it may
	Gatherer  prometheus.Gatherer
	Draining  func() bool
	Panics    *server.Panics // nil: the listener has its own, which no metric shows
}

// Settings is the configuration that changes while Sluice runs, as the
// operations listener needs it. Safe for concurrent use.
type Settings interface {
	// Show is what counts in this process, the newest version included; while
	// the database does not answer, the newest this process knows.
	Show(ctx context.Context) settings.View
	// Change sets and unsets hot keys for all instances, all of them or none.
	// It returns settings.ErrVersion, or an invalid.Error that names each key.
	Change(ctx context.Context, c settings.Change) error
	// Revert brings back the hot keys under prefix as they were at version to, but for what was to end and has.
	// To 0 is the newest version that makes a difference to them. It returns settings.ErrNoVersion when there is none.
	Revert(ctx context.Context, to int64, prefix string, by settings.Author) error
	// Reload reads the file of this process again.
	Reload(ctx context.Context, by settings.Author) (settings.ReloadResult, error)
	// Versions lists what was changed, newest first, older than before when that is not 0.
	Versions(ctx context.Context, before int64, limit int) ([]settings.Version, error)
}

// Ops is the operations listener: health, metrics, profiles and the admin
// API. It must not be reachable from the public network.
type Ops struct {
	OpsParts
	log     *slog.Logger
	now     func() time.Time
	engine  *gin.Engine
	refused *server.RefusalLog

	followers atomic.Int64 // of the event log
}

const readyTimeout = 2 * time.Second

// errCheck is the answer of a check that has panicked.
var errCheck = errors.New("the check broke; see the log")

// NewOps returns the operations surface; its routes are on Handler.
func NewOps(parts OpsParts, log *slog.Logger, now func() time.Time) *Ops {
	gin.SetMode(gin.ReleaseMode)
	if parts.Panics == nil {
		parts.Panics = server.NewPanics(log, prometheus.NewRegistry(), now)
	}
	o := &Ops{OpsParts: parts, log: log, now: now, engine: gin.New(), refused: server.NewRefusalLog(log, now)}
	o.engine.HandleMethodNotAllowed = true
	o.engine.RedirectTrailingSlash = false
	o.engine.Use(api.AssignRequestID(), server.Recover(log))
	o.engine.NoRoute(func(c *gin.Context) {
		api.WriteProblem(c, api.NewProblem(api.CodeNotFound, "No resource has this address."))
	})
	o.engine.NoMethod(func(c *gin.Context) {
		api.WriteProblem(c, api.NewProblem(api.CodeMethodNotAllowed, "The Allow header lists what this resource answers."))
	})
	o.routes()
	return o
}

// Handler answers the operations listener.
func (o *Ops) Handler() *gin.Engine { return o.engine }

func (o *Ops) routes() {
	o.engine.GET("/openapi.json", func(c *gin.Context) { c.Data(http.StatusOK, "application/json", api.OpenAPIOps()) })
	o.engine.GET("/livez", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	o.engine.GET("/readyz", o.ready)
	o.engine.GET("/metrics", gin.WrapH(promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{})))
	profiles := o.engine.Group("/debug/pprof")
	profiles.GET("/", gin.WrapF(pprof.Index))
	profiles.GET("/cmdline", gin.WrapF(pprof.Cmdline))
	profiles.GET("/profile", gin.WrapF(pprof.Profile))
	profiles.GET("/symbol", gin.WrapF(pprof.Symbol))
	profiles.GET("/trace", gin.WrapF(pprof.Trace))
	for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
		profiles.GET("/"+name, gin.WrapH(pprof.Handler(name)))
	}
	admin := o.engine.Group("/admin/v1", o.authenticate, o.unbarred)
	admin.GET("/sales", o.listSales)
	admin.POST("/sales", o.createSale)
	admin.GET("/sales/:sale", o.showSale)
	admin.PATCH("/sales/:sale", o.updateSale)
	admin.POST("/sales/:sale/open", o.setState(inventory.Open))
	admin.POST("/sales/:sale/pause", o.setState(inventory.Paused))
	admin.POST("/sales/:sale/close", o.setState(inventory.Closed))
	admin.POST("/sales/:sale/stock", o.adjustStock)
	admin.POST("/sales/:sale/rebuild", o.rebuild)
	admin.GET("/sales/:sale/orders", o.listOrders)
	admin.GET("/sales/:sale/dead", o.listDead)
	admin.GET("/sales/:sale/dead/:id", o.showDead)
	admin.POST("/sales/:sale/dead/requeue", o.requeueManyDead)
	admin.POST("/sales/:sale/dead/drop", o.dropManyDead)
	admin.POST("/sales/:sale/dead/:id/requeue", o.requeueDead)
	admin.POST("/sales/:sale/dead/:id/drop", o.dropDead)
	admin.GET("/orders/:id", o.showOrder)
	admin.GET("/payments", o.listPayments)
	admin.GET("/notifications", o.listNotifications)
	admin.POST("/notifications/retry", o.retryNotifications)
	admin.GET("/events", o.followEvents)
	admin.GET("/orders/:id/timeline", o.orderTimeline)
	admin.GET("/timelines", o.userTimelines)
	admin.GET("/queue", o.queue)
	admin.GET("/sales/:sale/queue", o.showQueue)
	admin.GET("/sales/:sale/leases", o.listLeases)
	admin.GET("/log", o.listLog)
	admin.GET("/audit", o.audit)
	o.topicRoutes(admin)
	o.settingsRoutes(admin)
	admin.GET("/instances", o.listInstances)
}

// ready asks every part at once; liveness asks none of them, because
// restarting this process would not bring a store back.
func (o *Ops) ready(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	answers := make([]error, len(o.Checks))
	done := make(chan int, len(o.Checks))
	for i, check := range o.Checks {
		go func() {
			defer func() { done <- i }()
			defer o.Panics.Catch("readiness")
			answers[i] = errCheck // unless it answers
			answers[i] = check.Ask(ctx)
		}()
	}
	for range o.Checks {
		<-done
	}
	status, text := http.StatusOK, strings.Builder{}
	line := func(name string, err error) {
		if err != nil {
			status = http.StatusServiceUnavailable
			fmt.Fprintf(&text, "[-]%s: %v\n", name, err)
			return
		}
		fmt.Fprintf(&text, "[+]%s ok\n", name)
	}
	for i, check := range o.Checks {
		name := check.Name
		if check.Note != nil {
			name += " (" + check.Note() + ")"
		}
		line(name, answers[i])
	}
	if o.Draining() {
		line("serving", fmt.Errorf("draining"))
	} else {
		line("serving", nil)
	}
	if _, verbose := c.GetQuery("verbose"); !verbose && status == http.StatusOK {
		c.String(status, "ok\n")
		return
	}
	c.String(status, text.String())
}

// actorKey holds the auth.Actor of an authenticated request.
const actorKey = "sluice.actor"

func (o *Ops) authenticate(c *gin.Context) {
	actor, err := o.Auth.Admin(c.Request)
	if err != nil {
		api.WriteProblem(c, unauthorized(err))
		return
	}
	c.Set(actorKey, actor)
	if need := roleFor(c.Request.Method, c.FullPath()); !actor.Role.Covers(need) {
		api.WriteProblem(c, api.NewProblem(api.CodeForbidden, "This needs the role "+string(need)+"; the token's is "+string(actor.Role)+"."))
	}
}

// unbarred refuses changes while this process must not touch the stores, and says why.
func (o *Ops) unbarred(c *gin.Context) {
	if o.Barred == nil || c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead {
		return
	}
	if err := o.Barred(); err != nil {
		p := api.NewProblem(api.CodeUnavailable, "This process changes nothing: "+err.Error())
		p.RetryAfter = barredRetry
		api.WriteProblem(c, p)
	}
}

// barredRetry is when a process that must not touch the stores may have been let in again.
const barredRetry = 3 * time.Second

func actorOf(c *gin.Context) string {
	if a, ok := c.Get(actorKey); ok {
		return a.(auth.Actor).Name
	}
	return ""
}
