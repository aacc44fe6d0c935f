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
	// refusalLogRate bounds log lines about refusals per second, because in a rush nearly every request is refused.
	refusalLogRate  = 100
	refusalLogBurst = 200
)

// EngineConfig configures an engine's trusted proxies and access log.
type EngineConfig struct {
	TrustedProxies []string // addresses or CIDR blocks whose X-Forwarded-For is trusted
	AccessLogEvery int      // one of that many successful requests is logged
}

// NewEngine returns a Gin engine with all middleware: request ids, metrics, access log, recovery and client addresses
// behind trusted proxies. Unknown routes and methods get problem documents. It fails on a bad gateway.trusted_proxies,
// or when reg already has the metric.
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
	// some clients drop a POST's body on a redirect
	engine.RedirectTrailingSlash = false
	engine.ContextWithFallback = true // makes c a context that ends with the request
	// Only the header to which proxies append: X-Real-Ip would come from the client if the proxy does not set it.
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

// Recover turns a panic into a 500 without details and logs the stack. An answer that has already begun is cut off
// instead, so that the client notices.
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

// Observe measures every request in http_server_request_duration_seconds and writes the access log. It logs each 500,
// up to 100 refusals a second (with the number left out), and one of cfg.AccessLogEvery successes. Refusals are
// information; a store that does not answer is a warning. Queries, paths and addresses are not logged, because they
// identify people. The order's id does not.
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
		defer func() { // also when the panic of a cut-off answer passes
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

// orderOfRequest returns the id of the order that a request created or named. It returns "" if that is not formed like
// an id.
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

// durations resolves each series once. After that an observation is one map look-up without allocation.
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

// add adds a series to a copy of the map, which stays small because routes, methods and codes are bounded.
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

// routeOf returns the route's template, because a path would create a series for each order.
func routeOf(c *gin.Context) string {
	if route := c.FullPath(); route != "" {
		return route
	}
	return "unmatched"
}

// methodOfRequest returns the method, or a fixed value for unknown ones, so that clients cannot invent label values.
func methodOfRequest(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions:
		return r.Method
	}
	return "other"
}
