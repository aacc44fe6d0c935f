package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/api"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

const (
	maxStackBytes = 16 << 10
	// refusalLogRate bounds log lines about refusals per second: at a sale's peak nearly every request is one.
	refusalLogRate  = 100
	refusalLogBurst = 200
)

// EngineConfig says whom an engine trusts and how much it logs.
type EngineConfig struct {
	TrustedProxies []string // addresses or CIDR blocks whose X-Forwarded-For is believed
	AccessLogEvery int      // one in so many successful requests is logged
}

// NewEngine is a Gin engine with everything that stands around the routes: request ids, metrics, access log, recovery,
// client addresses behind trusted proxies only, and problem documents for unknown routes and methods. It fails on a bad
// gateway.trusted_proxies, or when reg already holds the metric.
func NewEngine(
	cfg EngineConfig, log *slog.Logger, reg prometheus.Registerer, now func() time.Time,
) (*gin.Engine, error) {
	observe, err := Observe(cfg, log, reg, now)
	if err != nil {
		return nil, err
	}
	gin.SetMode(gin.ReleaseMode) // debug mode prints routes and warnings to stdout
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	// one address per resource; a redirect would drop a POST's body in some clients
	engine.RedirectTrailingSlash = false
	engine.ContextWithFallback = true // c is a context that ends with the request
	// Only the header that proxies append to: X-Real-Ip would come from the client wherever the proxy does not set it.
	engine.RemoteIPHeaders = []string{"X-Forwarded-For"}
	if err := engine.SetTrustedProxies(cfg.TrustedProxies); err != nil {
		return nil, fmt.Errorf("gateway.trusted_proxies: %w", err)
	}
	engine.Use(api.AssignRequestID(), observe, Recover(log))
	engine.NoRoute(func(c *gin.Context) {
		api.WriteProblem(c, api.NewProblem(api.CodeNotFound, "No resource has this address; see /openapi.json."))
	})
	engine.NoMethod(func(c *gin.Context) {
		api.WriteProblem(c, api.NewProblem(api.CodeMethodNotAllowed,
			"The Allow header lists what this resource answers."))
	})
	return engine, nil
}

// Recover turns a panic into a 500 that tells the client nothing, and logs the stack. An answer that has already begun
// is cut off instead, so that the client cannot take it for a whole one.
func Recover(log *slog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler)
			}
			stack := debug.Stack()
			log.Error("handler panicked", "request_id", api.RequestID(c), "method", c.Request.Method,
				"route", routeOf(c),
				"panic", fmt.Sprint(cause), "stack", string(stack[:min(len(stack), maxStackBytes)]))
			if c.Writer.Written() {
				panic(http.ErrAbortHandler)
			}
			api.WriteProblem(c, api.NewProblem(api.CodeInternal, ""))
		}()
		c.Next()
	}
}

// Observe measures every request in http_server_request_duration_seconds and writes the access log: each 500, refusals
// up to 100 lines a second (with the number left out), and one in cfg.AccessLogEvery successes. A
// refusal is what a sale mostly does, so it is information; that a store does not answer is a
// warning. Neither query, nor path, nor addresses are logged: they name people. The order's id does
// not.
func Observe(
	cfg EngineConfig, log *slog.Logger, reg prometheus.Registerer, now func() time.Time,
) (gin.HandlerFunc, error) {
	durations, err := newDurations(reg)
	if err != nil {
		return nil, err
	}
	// #nosec G115 -- at least 1
	access := &accessLog{log: log, every: uint64(max(cfg.AccessLogEvery, 1)),
		refusals: rate.NewLimiter(refusalLogRate, refusalLogBurst)}
	return func(c *gin.Context) {
		start := now()
		defer func() { // also when a cut-off answer panics through
			end := now()
			status := c.Writer.Status()
			durations.observe(routeOf(c), methodOfRequest(c.Request), status, end.Sub(start))
			access.write(c, status, start, end)
		}()
		c.Next()
	}, nil
}

type accessLog struct {
	log      *slog.Logger
	every    uint64
	served   atomic.Uint64
	refusals *rate.Limiter
	omitted  atomic.Int64
}

func (a *accessLog) write(c *gin.Context, status int, start, end time.Time) {
	level := slog.LevelInfo
	switch {
	case status == http.StatusInternalServerError:
		level = slog.LevelError
	case status >= http.StatusBadRequest:
		if !a.refusals.AllowN(end, 1) {
			a.omitted.Add(1)
			return
		}
		if status == http.StatusServiceUnavailable && api.RefusalOf(c) == api.CodeUnavailable {
			level = slog.LevelWarn
		}
	case a.served.Add(1)%a.every != 0:
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", api.RequestID(c)), slog.String("method", methodOfRequest(c.Request)),
		slog.String("route", routeOf(c)), slog.Int("status", status),
		slog.Float64("duration_ms", float64(end.Sub(start).Microseconds())/1000),
		slog.Int("bytes", max(c.Writer.Size(), 0)),
	}
	if id := orderOfRequest(c); id != "" {
		attrs = append(attrs, slog.String("order", id))
	}
	if code := api.RefusalOf(c); code != "" {
		attrs = append(attrs, slog.String("code", string(code)))
	}
	if omitted := a.omitted.Swap(0); omitted > 0 {
		attrs = append(attrs, slog.Int64("refusals_not_logged", omitted))
	}
	a.log.LogAttrs(context.WithoutCancel(c.Request.Context()), level, "request", attrs...)
}

// orderOfRequest is the order that a request made or asked for. It is looked for only where a line is written. What a
// client sends as an id is believed to be one only if it has the form.
func orderOfRequest(c *gin.Context) string {
	id := c.Param("id")
	if id == "" {
		location := c.Writer.Header().Get("Location")
		id = location[strings.LastIndexByte(location, '/')+1:]
	}
	if _, err := uuid.Parse(id); err != nil || len(id) != 36 {
		return ""
	}
	return id
}

// durations resolves each series once; afterwards an observation is one map look-up without allocation.
type durations struct {
	vec      *prometheus.HistogramVec
	resolved atomic.Pointer[map[seriesKey]prometheus.Observer]
	resolve  sync.Mutex
}

type seriesKey struct {
	route, method string
	status        int
}

func newDurations(reg prometheus.Registerer) (*durations, error) {
	d := &durations{vec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_server_request_duration_seconds",
		Help: "Time from the request's header to the end of its answer; long polls and event streams included.",
		Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5,
			5, 7.5, 10, 30},
	}, []string{"route", "method", "code"})}
	d.resolved.Store(&map[seriesKey]prometheus.Observer{})
	if err := reg.Register(d.vec); err != nil {
		return nil, fmt.Errorf("register http_server_request_duration_seconds: %w", err)
	}
	return d, nil
}

func (d *durations) observe(route, method string, status int, took time.Duration) {
	key := seriesKey{route, method, status}
	observer, ok := (*d.resolved.Load())[key]
	if !ok {
		observer = d.add(key)
	}
	observer.Observe(took.Seconds())
}

// add copies the map, which stays small: routes, methods and codes are all bounded.
func (d *durations) add(key seriesKey) prometheus.Observer {
	d.resolve.Lock()
	defer d.resolve.Unlock()
	known := *d.resolved.Load()
	if observer, ok := known[key]; ok {
		return observer
	}
	next := make(map[seriesKey]prometheus.Observer, len(known)+1)
	for k, observer := range known {
		next[k] = observer
	}
	next[key] = d.vec.WithLabelValues(key.route, key.method, strconv.Itoa(key.status))
	d.resolved.Store(&next)
	return next[key]
}

// routeOf is the route's template: a path would make a series per order.
func routeOf(c *gin.Context) string {
	if route := c.FullPath(); route != "" {
		return route
	}
	return "unmatched"
}

// methodOfRequest keeps clients from inventing label values.
func methodOfRequest(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions:
		return r.Method
	}
	return "other"
}
