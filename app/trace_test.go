package app

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"sluice/configs"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

// spans is a collector that remembers the spans that it gets.
type spans struct {
	mu  sync.Mutex
	all []*otlp.Span
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	var sent otlp.TracesData // encoded like a request
	if err == nil {
		err = proto.Unmarshal(text, &sent)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range sent.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			s.all = append(s.all, scope.Spans...)
		}
	}
}

// TestOneTraceFromTheRequestToTheNotification checks that a gateway and a separate worker add their spans to one trace.
func TestOneTraceFromTheRequestToTheNotification(t *testing.T) {
	t.Parallel()
	var kept spans
	server := httptest.NewServer(&kept)
	t.Cleanup(server.Close)
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Trace.Endpoint, cfg.Trace.Sample, cfg.Gateway.AccessLogEvery = server.URL, 1, 1
	var log shop.WatchedLog
	front, back := tracedApp(t, cfg, &log, Roles{Gateway: true}),
		tracedApp(t, cfg, &log, Roles{Worker: true, Notifier: true})
	openSale(t, inventory.NewSale{ID: "traced", Stock: 1}, front, back)

	req := shop.Order(t, front.Addr(), "traced", 1)
	req.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	var admitted struct {
		OrderID string `json:"order_id"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&admitted))
	require.NoError(t, resp.Body.Close())
	require.Eventually(t, func() bool {
		n, err := front.redis.Client.XLen(t.Context(), "sluice:events").Result()
		return err == nil && n == 1
	}, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, stopApp(back))
	require.NoError(t, stopApp(front)) // the stop exports the remaining spans

	id := uuid.MustParse(admitted.OrderID)
	found := map[string]*otlp.Span{}
	for _, s := range kept.all {
		require.Equal(t, id[:], s.TraceId, s.Name)
		found[s.Name] = s
	}
	require.Len(t, kept.all, 4)
	root := found["order"]
	require.NotNil(t, root)
	require.Empty(t, root.ParentSpanId)
	require.Len(t, root.Links, 1, "the shopper's own trace is linked")
	for _, name := range []string{"order.wait", "order.fulfil", "order.notify"} {
		require.NotNil(t, found[name], name)
		require.Equal(t, root.SpanId, found[name].ParentSpanId, name)
		require.Empty(t, found[name].GetStatus().GetMessage(), name)
		require.GreaterOrEqual(t, found[name].EndTimeUnixNano, found[name].StartTimeUnixNano, name)
	}
	require.Contains(t, log.String(), `"order":"`+admitted.OrderID+`","trace_id":"`+
		strings.ReplaceAll(admitted.OrderID, "-", "")+`"`)
}

func tracedApp(t *testing.T, cfg configs.Config, log io.Writer, roles Roles) *App {
	t.Helper()
	app, err := New(t.Context(), cfg, Options{Roles: roles, Log: slog.New(slog.NewJSONHandler(log, nil)),
		Registry: prometheus.NewRegistry(),
		Now:      time.Now, Version: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stopApp(app)) })
	require.NoError(t, app.Start(t.Context()))
	return app
}
