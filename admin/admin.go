// Package admin is the operations listener: health, metrics, profiles and the admin API, one file a resource.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/adminlog"
	"sluice/api"
	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/publish"
	"sluice/fleet"
	"sluice/gateway/auth"
	"sluice/gateway/server"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/inventory/reconcile"
	"sluice/notify"
	"sluice/notify/channel"
	"sluice/order/deadletter"
	"sluice/order/lookup"
	"sluice/order/timeline"
	"sluice/queue"
)

// Parts are what the operations listener stands on. Each handler gets those that it uses.
type Parts struct {
	Auth       *auth.Authenticator
	SaleStore  *inventory.SaleStore
	AdminLog   *adminlog.Log
	SaleCache  *inventory.SaleCache
	Reconciler *reconcile.Reconciler
	Auditor    *audit.Auditor
	Lines      *queue.Lines
	Lease      time.Duration // of a batch: queue.lease
	Finder     *lookup.Finder
	Dead       *deadletter.Admin
	Outbox     *notify.Admin
	Events     *channel.Stream
	Timelines  *timeline.Timelines
	Topics     *delay.Topics
	Messages   *message.Store
	Publisher  *publish.Publisher // nil: one that knows no channels
	Settings   Settings
	Beats      *fleet.Instances
	Checks     []Check
	Barred     func() error // why this process must not change the stores; nil, or a nil error: it may
	Gatherer   prometheus.Gatherer
	Draining   func() bool
	Panics     *server.Panics // nil: the listener has its own, which no metric shows
}

// New returns the operations listener: health, metrics, profiles and the admin API. It must not be reachable from the
// public network.
func New(p Parts, log *slog.Logger, now func() time.Time) *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	if p.Panics == nil {
		p.Panics = server.NewPanics(log, prometheus.NewRegistry(), now)
	}
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	engine.Use(api.AssignRequestID(), server.Recover(log))
	engine.NoRoute(func(c *gin.Context) {
		api.WriteProblem(c, api.NewProblem(api.CodeNotFound, "No resource has this address."))
	})
	engine.NoMethod(func(c *gin.Context) {
		api.WriteProblem(c, api.NewProblem(api.CodeMethodNotAllowed,
			"The Allow header lists what this resource answers."))
	})
	engine.GET("/openapi.json", func(c *gin.Context) { c.Data(http.StatusOK, "application/json", api.OpenAPIOps()) })
	engine.GET("/livez", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	engine.GET("/readyz", (&health{p.Checks, p.Draining, p.Panics}).ready)
	engine.GET("/metrics", gin.WrapH(promhttp.HandlerFor(p.Gatherer, promhttp.HandlerOpts{})))
	profiles(engine.Group("/debug/pprof"))
	gate := access{p.Auth, p.Barred}
	resources(p, log, now, engine.Group("/admin/v1", gate.authenticate, gate.unbarred))
	return engine
}

func profiles(group gin.IRoutes) {
	group.GET("/", gin.WrapF(pprof.Index))
	group.GET("/cmdline", gin.WrapF(pprof.Cmdline))
	group.GET("/profile", gin.WrapF(pprof.Profile))
	group.GET("/symbol", gin.WrapF(pprof.Symbol))
	group.GET("/trace", gin.WrapF(pprof.Trace))
	for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
		group.GET("/"+name, gin.WrapH(pprof.Handler(name)))
	}
}

// resources makes the handlers of the admin API, each with the parts that it uses, and adds their routes.
func resources(p Parts, log *slog.Logger, now func() time.Time, group gin.IRoutes) {
	reply := replier{log, server.NewRefusalLog(log, now)}
	check := saleChecker{reply, p.SaleStore}
	views := &lineViews{p.Lines, p.SaleCache, p.Beats, log}
	shown := &sales{replier: reply, saleStore: p.SaleStore, saleCache: p.SaleCache, reconciler: p.Reconciler,
		lines: views, now: now}
	shown.routes(group)
	(&rebuilds{shown, p.Lines, p.AdminLog}).routes(group)
	(&orders{check, p.Finder, p.Timelines}).routes(group)
	(&deadLetters{check, p.Dead}).routes(group)
	(&lines{check, views, p.Lease}).routes(group)
	(&taken{reply, p.SaleCache, p.Topics, p.Beats}).routes(group)
	(&topics{reply, p.Topics, p.Messages}).routes(group)
	if p.Publisher == nil {
		p.Publisher = publish.New(p.Topics, p.Messages)
	}
	(&messages{reply, p.Topics, p.Publisher, p.AdminLog}).routes(group)
	(&subscriptions{reply, p.Topics, p.Messages}).routes(group)
	(&deliveries{reply, p.Topics, p.Messages, p.AdminLog}).routes(group)
	(&notifications{reply, p.Outbox, p.AdminLog}).routes(group)
	(&events{replier: reply, events: p.Events, draining: p.Draining, now: now}).routes(group)
	(&changes{reply, p.AdminLog, p.Auditor}).routes(group)
	(&config{check, p.Settings, p.AdminLog}).routes(group)
}

// Check is one thing readiness depends on.
type Check struct {
	Name string
	Ask  func(ctx context.Context) error
	Note func() string // what a passed check adds to its line; may be nil
}

const readyTimeout = 2 * time.Second

// errCheck is the answer of a check that has panicked.
var errCheck = errors.New("the check broke; see the log")

// health answers whether this process is ready.
type health struct {
	checks   []Check
	draining func() bool
	panics   *server.Panics
}

// ready asks every part at once. Liveness asks none: restarting this process would not bring a
// store back.
func (h *health) ready(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	answers := make([]error, len(h.checks))
	done := make(chan int, len(h.checks))
	for i, check := range h.checks {
		go func() {
			defer func() { done <- i }()
			defer h.panics.Catch("readiness")
			answers[i] = errCheck // unless it answers
			answers[i] = check.Ask(ctx)
		}()
	}
	for range h.checks {
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
	for i, check := range h.checks {
		name := check.Name
		if check.Note != nil {
			name += " (" + check.Note() + ")"
		}
		line(name, answers[i])
	}
	if h.draining() {
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
