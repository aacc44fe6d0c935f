// Package work is the listener for the shop's other systems. They add messages to topics, and receive and acknowledge
// those of subscriptions.
package work

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/api"
	"sluice/delay"
	"sluice/delay/publish"
	"sluice/delay/pull"
	"sluice/gateway/auth"
	"sluice/gateway/ratelimit"
	"sluice/gateway/server"
)

// Parts is what the listener stands on.
type Parts struct {
	Config    Config
	Auth      *auth.Authenticator
	Topics    *delay.Topics
	Publisher *publish.Publisher
	Readers   *pull.Readers
	Barred    func() error // why this process must not touch the stores; a nil error: it may
	Log       *slog.Logger
	Now       func() time.Time
	Registry  prometheus.Registerer
}

// Listener answers the shop's other systems.
type Listener struct {
	engine *gin.Engine
	drain  context.CancelFunc
}

// New returns the listener and registers its metrics.
func New(p Parts) *Listener {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	engine.Use(api.AssignRequestID(), server.Recover(p.Log))
	engine.NoRoute(func(c *gin.Context) {
		api.WriteProblem(c, api.NewProblem(api.CodeNotFound, "No resource has this address; see /openapi.json."))
	})
	engine.NoMethod(func(c *gin.Context) {
		api.WriteProblem(c, api.NewProblem(api.CodeMethodNotAllowed,
			"The Allow header lists what this resource answers."))
	})
	engine.GET("/openapi.json", func(c *gin.Context) { c.Data(http.StatusOK, "application/json", api.OpenAPIWork()) })

	drained, drain := context.WithCancel(context.Background())
	reply := replier{p.Log, server.NewRefusalLog(p.Log, p.Now)}
	metrics := newMetrics(p.Registry)
	gate := access{p.Auth, p.Barred}
	limiter := ratelimit.New(ratelimit.Config{PerUserRPS: p.Config.PublishRPS, PerUserBurst: p.Config.PublishBurst},
		p.Now)
	group := engine.Group("/work/v1", gate.authenticate, gate.unbarred)
	(&messages{reply, p.Topics, p.Publisher, limiter, metrics}).routes(group)
	(&subscriptions{reply, p.Topics, p.Readers, newPlaces(p.Config, metrics.waiting), metrics, drained}).routes(group)
	return &Listener{engine, drain}
}

// Handler returns the routes.
func (l *Listener) Handler() *gin.Engine { return l.engine }

// Drain ends all waits: those who wait are answered that there is nothing, and later ones get nothing.
func (l *Listener) Drain() { l.drain() }
