package express

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// plainPath reports whether a request is served by express, not by net/http.
func plainPath(_, path string) bool { return strings.HasPrefix(path, "/plain") }

type running struct {
	*Server
	addr   string
	served chan error
}

// start serves h until the test ends.
func start(t *testing.T, maxConns int, h http.HandlerFunc, edit ...func(*http.Server)) *running {
	t.Helper()
	inner := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second,
		WriteTimeout: 20 * time.Second,
		IdleTimeout:  20 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	for _, e := range edit {
		e(inner)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed with the server
	require.NoError(t, err)
	r := &running{New(inner, plainPath, maxConns), ln.Addr().String(), make(chan error, 1)}
	go func() { r.served <- r.Serve(ln) }()
	t.Cleanup(func() {
		require.NoError(t, r.Close())
		require.ErrorIs(t, <-r.served, http.ErrServerClosed)
	})
	return r
}

type client struct {
	net.Conn
	*bufio.Reader
	t *testing.T
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return &client{c, bufio.NewReader(c), t}
}

func (c *client) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func (c *client) send(text string) {
	c.t.Helper()
	_, err := io.WriteString(c.Conn, text)
	require.NoError(c.t, err)
}

func (c *client) answer() (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.Reader, nil)
	require.NoError(c.t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	require.NoError(c.t, resp.Body.Close())
	return resp, string(body)
}

// hungUp waits for the end of the connection.
func (c *client) hungUp() {
	c.t.Helper()
	_, err := c.Reader.ReadByte()
	require.Error(c.t, err)
	require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded)
}

// servedBy returns which of the two serves a request: only net/http can flush.
func servedBy(w http.ResponseWriter) string {
	if _, ok := w.(http.Flusher); ok {
		return "net/http"
	}
	return "express"
}

func tellLane(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s", servedBy(w), r.URL.Path, body)
}

const plainOrder = "POST /plain HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"

func TestPlainRequestsStayAndOthersAreHandedOver(t *testing.T) {
	t.Parallel()
	s := start(t, 0, tellLane)
	c := dial(t, s.addr)
	for range 3 {
		c.send(plainOrder)
		resp, body := c.answer()
		require.Equal(t, "express /plain hi", body)
		require.Equal(t, "HTTP/1.1", resp.Proto)
		require.NotEmpty(t, resp.Header.Get("Date"))
		require.Equal(t, "text/plain; charset=utf-8", resp.Header.Get("Content-Type"))
	}
	c.send("POST /plain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
	_, body := c.answer()
	require.Equal(t, "net/http /plain hi", body)
	c.send(plainOrder)
	_, body = c.answer()
	require.Equal(t, "net/http /plain hi", body, "a connection that was handed over stays there")
}

func TestTwoRequestsAtOnceAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	c := dial(t, start(t, 0, tellLane).addr)
	c.send("GET /plain/1 HTTP/1.1\r\nHost: x\r\n\r\n" + "GET /plain/2 HTTP/1.1\r\nHost: x\r\n\r\n")
	_, first := c.answer()
	_, second := c.answer()
	require.Equal(t, []string{"net/http /plain/1 ", "net/http /plain/2 "}, []string{first, second})
}

// TestASlowRequestIsAnswered checks that a slow request is served: by express within patience, then by net/http.
func TestASlowRequestIsAnswered(t *testing.T) {
	t.Parallel()
	s := start(t, 0, tellLane, func(inner *http.Server) { inner.ReadHeaderTimeout = 50 * time.Millisecond })
	c := dial(t, s.addr)
	c.send(plainOrder)
	c.answer()
	c.send(plainOrder[:len(plainOrder)-1])
	require.Eventually(t, s.none, 10*time.Second, time.Millisecond)
	c.send(plainOrder[len(plainOrder)-1:])
	_, body := c.answer()
	require.Equal(t, "net/http /plain hi", body)
}

// none reports whether express serves no connection.
func (r *running) none() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open) == 0
}

func TestASlowHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	c := dial(t, start(t, 0, tellLane, func(inner *http.Server) {
		inner.ReadHeaderTimeout = 50 * time.Millisecond
	}).addr)
	c.send("POST /plain HTTP/1.1\r\nX-Slow: ")
	_, err := io.ReadAll(c.Reader)
	require.NoError(t, err)
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	c := dial(t, start(t, 0, tellLane, func(inner *http.Server) { inner.IdleTimeout = 50 * time.Millisecond }).addr)
	c.send(plainOrder)
	c.answer()
	c.hungUp()
}

// TestASilentNewcomerIsClosedSoon checks that a connection without any request is closed after the time for one
// request. One with requests may rest.
func TestASilentNewcomerIsClosedSoon(t *testing.T) {
	t.Parallel()
	r := start(t, 0, tellLane, func(inner *http.Server) {
		inner.ReadHeaderTimeout, inner.IdleTimeout = 100*time.Millisecond, time.Hour
	})
	asked, silent := dial(t, r.addr), dial(t, r.addr)
	asked.send(plainOrder)
	asked.answer()
	silent.hungUp()
	asked.send(plainOrder)
	asked.answer()
}

// TestAnswersAreThoseOfNetHTTP checks that both servers give the same answers, except for the order of headers.
func TestAnswersAreThoseOfNetHTTP(t *testing.T) {
	t.Parallel()
	handlers := map[string]http.HandlerFunc{
		"nothing":      func(http.ResponseWriter, *http.Request) {},
		"text":         tellPath,
		"status":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) },
		"no content":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"first status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202); w.WriteHeader(500) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/busy", http.StatusSeeOther)
		},
		"unknown":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(499) },
		"close":         func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") },
		"header values": func(w http.ResponseWriter, _ *http.Request) { w.Header()["X-Two"] = []string{"a", "b"} },
		"broken value":  func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Bad", "a\r\nX-Evil: b") },
		"typed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			_, _ = io.WriteString(w, "<html>")
		},
		"guessed": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("a", 1<<20))
		},
	}
	s := start(t, 0, func(w http.ResponseWriter, r *http.Request) { handlers[r.Header.Get("X-Case")](w, r) })
	for name := range handlers {
		plain, whole := dial(t, s.addr), dial(t, s.addr)
		plain.send("GET /plain HTTP/1.1\r\nHost: x\r\nX-Case: " + name + "\r\n\r\n")
		whole.send("GET /plain?whole HTTP/1.1\r\nHost: x\r\nX-Case: " + name + "\r\n\r\n")
		got, gotBody := plain.answer()
		want, wantBody := whole.answer()
		got.Header.Del("Date")
		want.Header.Del("Date")
		got.Header.Del("Content-Length") // net/http omits it when an answer exceeds its buffer
		want.Header.Del("Content-Length")
		require.Equal(t, want.StatusCode, got.StatusCode, name)
		require.Equal(t, want.Header, got.Header, name)
		require.Equal(t, want.Close, got.Close, name)
		require.Equal(t, wantBody, gotBody, name)
	}
}

func tellPath(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }

func TestAPanicEndsTheConnectionAndNoOther(t *testing.T) {
	t.Parallel()
	s := start(t, 1, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/plain/abort":
			panic(http.ErrAbortHandler)
		case "/plain/panic":
			panic("a bug")
		}
		tellPath(w, r)
	})
	for _, path := range []string{"/plain/abort", "/plain/panic"} {
		c := dial(t, s.addr)
		c.send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		c.hungUp()
	}
	c := dial(t, s.addr) // the only slot is free again
	c.send("GET /plain/ok HTTP/1.1\r\nHost: x\r\n\r\n")
	_, body := c.answer()
	require.Equal(t, "/plain/ok", body)
}

// TestConnectionsAreBounded checks that the bound counts both kinds of connections and that each returns its slot once.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, 2, tellLane)
	for range 3 {
		plain, handed, third := dial(t, s.addr), dial(t, s.addr), dial(t, s.addr)
		plain.send(plainOrder)
		plain.answer()
		handed.send("GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
		handed.answer()
		third.send(plainOrder)
		require.NoError(t, third.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err := third.Reader.Peek(1)
		require.Error(t, err, "the third connection waits")
		require.NoError(t, plain.Close())
		require.NoError(t, third.SetReadDeadline(time.Now().Add(30*time.Second)))
		third.answer()
		require.NoError(t, handed.Close())
		require.NoError(t, third.Close())
	}
}

func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("a", 32<<20)
	began := make(chan struct{})
	s := start(t, 0, func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		_, _ = io.WriteString(w, large)
	}, func(inner *http.Server) { inner.WriteTimeout = 50 * time.Millisecond })
	c := dial(t, s.addr)
	c.send(plainOrder)
	<-began
	require.Eventually(t, s.none, 20*time.Second, time.Millisecond, "nothing of ours is left open")
	n, err := io.Copy(io.Discard, c.Reader)
	require.Less(t, n, int64(len(large)), err)
}
