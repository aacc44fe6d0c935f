package server

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/api"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// logBuffer collects log lines from several goroutines.
type logBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

// lines decodes what was logged so far and empties the buffer.
func (b *logBuffer) lines(t testing.TB) []map[string]any {
	t.Helper()
	b.Lock()
	defer b.Unlock()
	var lines []map[string]any
	for text := range strings.Lines(b.String()) {
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &line))
		lines = append(lines, line)
	}
	b.Reset()
	return lines
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newTestEngine(t testing.TB, cfg EngineConfig) (*gin.Engine, *logBuffer, *prometheus.Registry) {
	t.Helper()
	var logs logBuffer
	reg := prometheus.NewRegistry()
	engine, err := NewEngine(cfg, slog.New(slog.NewJSONHandler(&logs, nil)), reg, fixedClock)
	require.NoError(t, err)
	engine.GET("/ok/:id", func(c *gin.Context) { c.String(http.StatusOK, "fine") })
	engine.GET("/ip", func(c *gin.Context) { c.String(http.StatusOK, c.ClientIP()) })
	engine.GET("/full", func(c *gin.Context) { api.WriteProblem(c, api.NewProblem(api.CodeQueueFull, "")) })
	engine.GET("/panic", func(*gin.Context) { panic("secret of the house") })
	engine.GET("/late", func(c *gin.Context) {
		c.String(http.StatusOK, "half")
		c.Writer.Flush()
		panic("too late")
	})
	return engine, &logs, reg
}

func call(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	engine, _, _ := newTestEngine(t, EngineConfig{AccessLogEvery: 1000})
	for id, kept := range map[string]bool{
		"abc-DEF_1.2": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "a b": false, "a\"b": false, "é": false, "a/b": false,
	} {
		got := call(engine, http.MethodGet, "/ok/1", "X-Request-ID", id).Header().Get("X-Request-ID")
		require.Equal(t, kept, got == id, id)
		if !kept {
			require.Regexp(t, `^[0-9A-V]{26}$`, got)
		}
	}
	twice := call(engine, http.MethodGet, "/ok/1", "X-Request-ID", "a", "X-Request-ID", "b").Header().
		Values("X-Request-ID")
	require.Len(t, twice, 1)
	require.Len(t, twice[0], 26)
}

func TestUnknownRouteAndMethod(t *testing.T) {
	t.Parallel()
	engine, _, _ := newTestEngine(t, EngineConfig{AccessLogEvery: 1000})
	w := call(engine, http.MethodGet, "/nowhere")
	require.Equal(t, http.StatusNotFound, w.Code)
	require.Contains(t, w.Body.String(), `"code":"not_found"`)
	w = call(engine, http.MethodDelete, "/ok/1")
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "GET", w.Header().Get("Allow"))
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.Equal(t, http.StatusNotFound, call(engine, http.MethodGet, "/ok/1/").Code, "no redirects")
}

func TestPanicTellsTheLogAndNotTheClient(t *testing.T) {
	t.Parallel()
	engine, logs, reg := newTestEngine(t, EngineConfig{AccessLogEvery: 1000})
	w := call(engine, http.MethodGet, "/panic")
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.NotContains(t, w.Body.String(), "secret")
	lines := logs.lines(t)
	require.Len(t, lines, 2)
	require.Equal(t, "secret of the house", lines[0]["panic"])
	require.Contains(t, lines[0]["stack"], "middleware_test.go")
	require.Equal(t, w.Header().Get("X-Request-ID"), lines[0]["request_id"])
	require.EqualValues(t, 500, lines[1]["status"])
	require.Equal(t, "internal", lines[1]["code"])
	require.Equal(t, 1, testutil.CollectAndCount(reg, "http_server_request_duration_seconds"))
}

func TestPanicAfterTheAnswerBeganCutsItOff(t *testing.T) {
	t.Parallel()
	engine, logs, _ := newTestEngine(t, EngineConfig{AccessLogEvery: 1000})
	server := httptest.NewServer(engine)
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	resp, err := client.Get(server.URL + "/late")
	require.NoError(t, err)
	_, err = io.ReadAll(resp.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "too late", logs.lines(t)[0]["panic"])
}

func TestClientIPOnlyBehindTrustedProxies(t *testing.T) {
	t.Parallel()
	direct, _, _ := newTestEngine(t, EngineConfig{AccessLogEvery: 1000}) // httptest's peer is 192.0.2.1
	require.Equal(t, "192.0.2.1", call(direct, http.MethodGet, "/ip", "X-Forwarded-For", "198.51.100.9").Body.String())
	cfg := EngineConfig{AccessLogEvery: 1000}
	cfg.TrustedProxies = []string{"192.0.2.0/24"}
	behind, _, _ := newTestEngine(t, cfg)
	for _, test := range []struct{ name, header, value, want string }{
		{"proxy's word", "X-Forwarded-For", "198.51.100.9", "198.51.100.9"},
		{"client's own entry in front", "X-Forwarded-For", "1.1.1.1, 198.51.100.9", "198.51.100.9"},
		{"two proxies", "X-Forwarded-For", "198.51.100.9, 192.0.2.7", "198.51.100.9"},
		{"three proxies, a forged start", "X-Forwarded-For", "192.0.2.66, 1.1.1.1, 198.51.100.9, 192.0.2.7, 192.0.2.8",
			"198.51.100.9"},
		{"a strange hop between proxies", "X-Forwarded-For", "198.51.100.9, 203.0.113.5, 192.0.2.7", "203.0.113.5"},
		{"only proxies", "X-Forwarded-For", "192.0.2.8, 192.0.2.7", "192.0.2.8"},
		{"garbage", "X-Forwarded-For", "nonsense", "192.0.2.1"},
		{"another header", "X-Real-IP", "198.51.100.9", "192.0.2.1"},
	} {
		require.Equal(t, test.want, call(behind, http.MethodGet, "/ip", test.header, test.value).
			Body.String(), test.name)
	}
}

// TestClientIPFromSeveralLines checks that several X-Forwarded-For lines count in order.
func TestClientIPFromSeveralLines(t *testing.T) {
	t.Parallel()
	cfg := EngineConfig{AccessLogEvery: 1000}
	cfg.TrustedProxies = []string{"192.0.2.0/24"}
	behind, _, _ := newTestEngine(t, cfg)
	r := httptest.NewRequest(http.MethodGet, "/ip", nil)
	r.Header["X-Forwarded-For"] = []string{"1.1.1.1", "198.51.100.9", "192.0.2.7"}
	w := httptest.NewRecorder()
	behind.ServeHTTP(w, r)
	require.Equal(t, "198.51.100.9", w.Body.String())
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	cfg := EngineConfig{AccessLogEvery: 1000}
	cfg.AccessLogEvery = 10
	engine, logs, _ := newTestEngine(t, cfg)
	for range 100 {
		call(engine, http.MethodGet, "/ok/7?token=hush&email=ann@example.com", "Authorization", "Bearer hush")
	}
	lines := logs.lines(t)
	require.Len(t, lines, 10, "one success in ten")
	require.Equal(t, "/ok/:id", lines[0]["route"])
	for _, line := range lines {
		text, err := json.Marshal(line)
		require.NoError(t, err)
		for _, private := range []string{"hush", "ann@", "192.0.2.1", "/ok/7"} {
			require.NotContains(t, string(text), private)
		}
	}
	for range 1000 {
		call(engine, http.MethodGet, "/full")
	}
	lines = logs.lines(t)
	require.Len(t, lines, refusalLogBurst, "the clock stands still, so only the burst is logged")
	require.Equal(t, "queue_full", lines[0]["code"])
	call(engine, http.MethodGet, "/panic")
	lines = logs.lines(t)
	require.EqualValues(t, 1000-refusalLogBurst, lines[1]["refusals_not_logged"], "a 500 is logged whatever the crowd")
}

func TestMetricLabelsAreBounded(t *testing.T) {
	t.Parallel()
	engine, _, reg := newTestEngine(t, EngineConfig{AccessLogEvery: 1000})
	for _, id := range []string{"1", "2", "3"} {
		call(engine, http.MethodGet, "/ok/"+id)
		call(engine, http.MethodGet, "/"+id)
		call(engine, "BREW"+id, "/ok/1")
	}
	require.Equal(t, 3, testutil.CollectAndCount(reg, "http_server_request_duration_seconds"))
	families, err := reg.Gather()
	require.NoError(t, err)
	seen := map[string]uint64{}
	for _, metric := range families[0].GetMetric() {
		var labels []string
		for _, label := range metric.GetLabel() {
			labels = append(labels, label.GetValue())
		}
		seen[strings.Join(labels, " ")] = metric.GetHistogram().GetSampleCount()
	}
	require.Equal(t, map[string]uint64{"200 GET /ok/:id": 3, "404 GET unmatched": 3, "405 other unmatched": 3}, seen)
	_, err = NewEngine(EngineConfig{AccessLogEvery: 1000}, quietLog(), reg, time.Now)
	require.ErrorContains(t, err, "http_server_request_duration_seconds")
}

func BenchmarkEngine(b *testing.B) {
	engine, err := NewEngine(EngineConfig{AccessLogEvery: 1000}, quietLog(), prometheus.NewRegistry(), time.Now)
	require.NoError(b, err)
	engine.GET("/ok", func(c *gin.Context) { c.Status(http.StatusNoContent) })
	r := httptest.NewRequest(http.MethodGet, "/ok", nil)
	b.ReportAllocs()
	for b.Loop() {
		engine.ServeHTTP(httptest.NewRecorder(), r)
	}
}
