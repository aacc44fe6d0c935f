package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/api"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func nothingPlain(string, string) bool { return false }

// startServer serves h on a free port until the end of the test.
func startServer(t testing.TB, cfg HTTPConfig, h http.Handler) (string, *Server) {
	t.Helper()
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	srv := NewServer(cfg, h, nil, nothingPlain, quietLog())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.NoError(t, <-served)
	})
	return ln.Addr().String(), srv
}

func bodyEngine(t *testing.T) *gin.Engine {
	t.Helper()
	engine, err := NewEngine(EngineConfig{AccessLogEvery: 1000}, quietLog(), prometheus.NewRegistry(), time.Now)
	require.NoError(t, err)
	engine.POST("/", func(c *gin.Context) {
		body, problem := api.ReadBody(c.Request)
		if problem != nil {
			api.WriteProblem(c, *problem)
			return
		}
		c.Data(http.StatusOK, "text/plain", body)
	})
	return engine
}

func dial(t *testing.T, addr, first string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, first)
	require.NoError(t, err)
	return conn
}

func fastConfig() HTTPConfig {
	cfg := DefaultHTTPConfig()
	cfg.ReadHeaderTimeout, cfg.ReadTimeout, cfg.WriteTimeout = 150*time.Millisecond, 300*time.Millisecond, 2*time.Second
	return cfg
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	addr, _ := startServer(t, fastConfig(), bodyEngine(t))
	conn := dial(t, addr, "POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	_, err := io.ReadAll(conn) // ends because the server closes; the test's own deadline would be an error
	require.NoError(t, err)
}

func TestSlowBodyIsRefused(t *testing.T) {
	t.Parallel()
	addr, _ := startServer(t, fastConfig(), bodyEngine(t))
	conn := dial(t, addr, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"quan")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), "in time")
}

func TestBrokenBodyIsRefused(t *testing.T) {
	t.Parallel()
	addr, _ := startServer(t, fastConfig(), bodyEngine(t))
	conn := dial(t, addr, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
}

func TestHugeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	addr, _ := startServer(t, DefaultHTTPConfig(), bodyEngine(t))
	conn := dial(t, addr, "POST / HTTP/1.1\r\nHost: x\r\nX-Huge: "+strings.Repeat("a", 32<<10))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
}

// TestHoldOpen checks that a long poll that is held open outlives both timeouts. Its context outlives the read timeout
// in any case.
func TestHoldOpen(t *testing.T) {
	t.Parallel()
	for _, hold := range []bool{true, false} {
		t.Run(fmt.Sprint(hold), func(t *testing.T) {
			t.Parallel()
			cfg := fastConfig()
			cfg.WriteTimeout = 500 * time.Millisecond
			ended := make(chan error, 2)
			addr, _ := startServer(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if hold {
					ended <- api.HoldOpen(w, 10*time.Second)
				}
				wait := time.NewTimer(time.Second)
				defer wait.Stop()
				select {
				case <-r.Context().Done():
				case <-wait.C:
				}
				ended <- r.Context().Err()
				_, _ = io.WriteString(w, "done")
			}))
			conn := dial(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, <-ended)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if !hold {
				require.ErrorIs(t, err, io.ErrUnexpectedEOF, "why HoldOpen exists: the answer never arrives")
				return
			}
			require.NoError(t, <-ended)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, "done", string(body))
		})
	}
}

func TestHoldOpenThroughGin(t *testing.T) {
	t.Parallel()
	engine := bodyEngine(t)
	engine.GET("/hold", func(c *gin.Context) {
		if err := api.HoldOpen(c.Writer, time.Second); err != nil {
			c.String(http.StatusInternalServerError, err.Error())
			return
		}
		c.String(http.StatusOK, "held")
	})
	addr, _ := startServer(t, fastConfig(), engine)
	conn := dial(t, addr, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestShutdownWaitsAndThenCutsOff(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}, 1), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		select {
		case <-release:
			_, _ = io.WriteString(w, "done")
		case <-r.Context().Done():
		}
	})
	addr, srv := startServer(t, DefaultHTTPConfig(), handler)
	conn := dial(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Shutdown(context.Background(), 10*time.Second) }()
	close(release)
	require.NoError(t, <-stopped)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err, "a running request got its answer")
	require.NoError(t, resp.Body.Close())

	release = make(chan struct{})
	addr, srv = startServer(t, DefaultHTTPConfig(), handler)
	conn = dial(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-started
	err = srv.Shutdown(context.Background(), 50*time.Millisecond)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "grace period of 50ms")
	_, err = http.ReadResponse(bufio.NewReader(conn), nil)
	require.Error(t, err)
}

func TestListenBoundsConnectionsAndNamesTheAddress(t *testing.T) {
	t.Parallel()
	cfg := DefaultHTTPConfig()
	cfg.MaxConns = 1
	addr, _ := startServer(t, cfg, bodyEngine(t))
	first := dial(t, addr, "")
	second := dial(t, addr, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, second.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	_, err := bufio.NewReader(second).Peek(1)
	require.Error(t, err, "the second connection waits")
	require.NoError(t, first.Close())
	require.NoError(t, second.SetReadDeadline(time.Now().Add(20*time.Second)))
	resp, err := http.ReadResponse(bufio.NewReader(second), nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	_, err = Listen(t.Context(), addr)
	require.ErrorContains(t, err, addr)
}
