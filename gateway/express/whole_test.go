package express

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tellAll answers with all that a handler can see of a request.
func tellAll(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var header []string
	for name, values := range r.Header {
		header = append(header, fmt.Sprintf("%s=%q", name, values))
	}
	slices.Sort(header)
	fmt.Fprintf(w, "%s %s %s %q %v %d %q %v", r.Method, r.URL, r.Host, header, r.Close, r.ContentLength, body, err)
}

// pair is both servers with the same handler.
type pair struct{ express, whole string }

func startPair(tb testing.TB) pair {
	tb.Helper()
	listen := func(plain bool) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed with the server
		require.NoError(tb, err)
		server := &http.Server{Handler: http.HandlerFunc(tellAll), ReadHeaderTimeout: time.Minute,
			ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 4 << 10,
			ErrorLog: log.New(io.Discard, "", 0)}
		if plain {
			lane := New(server, plainPath, 0)
			go func() { _ = lane.Serve(ln) }()
			tb.Cleanup(func() { _ = lane.Close() })
		} else {
			go func() { _ = server.Serve(ln) }()
			tb.Cleanup(func() { _ = server.Close() })
		}
		return ln.Addr().String()
	}
	return pair{express: listen(true), whole: listen(false)}
}

// converse sends pieces on one connection, ends its side where half is true, and returns all answers in words.
func converse(tb testing.TB, addr string, pieces []string, half bool) (answers []string) {
	tb.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // it has a deadline
	require.NoError(tb, err)
	defer c.Close()
	require.NoError(tb, c.SetDeadline(time.Now().Add(20*time.Second)))
	for i, piece := range pieces {
		if i > 0 {
			time.Sleep(300 * time.Microsecond) // so that pieces are read one by one, mostly
		}
		if _, err := io.WriteString(c, piece); err != nil {
			break // an answer that ends the connection may come before the rest is sent
		}
	}
	if half {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	r := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			require.NotContains(tb, err.Error(), "timeout", "%q", pieces)
			return answers
		}
		body, err := io.ReadAll(resp.Body)
		resp.Header.Del("Date")
		answers = append(answers, fmt.Sprintf("%s %s %v %q %v", resp.Proto, resp.Status, resp.Header, body, err))
	}
}

// cut divides a text at up to three places.
func cut(text string, at ...uint16) (pieces []string) {
	for _, n := range at {
		if int(n) > 0 && int(n) < len(text) {
			pieces, text = append(pieces, text[:n]), text[n:]
		}
	}
	return append(pieces, text)
}

const lastRequest = "GET /plain/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// strays are conversations in which both servers once differed, or might.
var strays = []string{
	plainOrder + "\r\n",
	plainOrder + "\r\n\r\n",
	plainOrder + "\r\n\r\n\r\n",
	plainOrder + "\n\r\n",
	plainOrder + "\r",
	plainOrder + "\r\nGE",
	plainOrder + "GE",
	plainOrder + "GET ",
	"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n\r\n",
	"GET /plain HTTP/1.1\nHost: x\n\n",
	"POST /plain HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi",
	plainOrder + "GET /plain HTTP/1.1\nHost: x\n\n",
	"POST /plain HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhi",
	"GE",
	"\r\n",
	"",
}

// Whole connections are answered as net/http answers them, whatever follows a request and in whatever pieces it comes.
func TestConnectionsAreAnsweredAsByNetHTTP(t *testing.T) {
	t.Parallel()
	servers := startPair(t)
	for _, text := range strays {
		for _, after := range []string{"", lastRequest} {
			for _, at := range []uint16{0, 1, uint16(len(plainOrder)), uint16(len(plainOrder)) + 1, uint16(len(text))} {
				pieces := cut(text+after, at)
				want := converse(t, servers.whole, pieces, true)
				require.Equal(t, want, converse(t, servers.express, pieces, true), "%q", pieces)
			}
		}
	}
}

// A client that stays connected is answered after stray line breaks, too.
func TestLineBreaksBehindAPostAreDropped(t *testing.T) {
	t.Parallel()
	servers := startPair(t)
	for _, addr := range []string{servers.whole, servers.express} {
		for _, stray := range []string{"\r\n", "\r\n\r\n", "\n", ""} {
			c := dial(t, addr)
			c.send(plainOrder)
			resp, _ := c.answer()
			require.Equal(t, http.StatusOK, resp.StatusCode)
			c.send(stray)
			c.send("GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, body := c.answer()
			require.Equal(t, http.StatusOK, resp.StatusCode, "%q", stray)
			require.Contains(t, body, "GET /plain x")
		}
	}
}

// Both servers give the same answers to the same bytes.
func FuzzConnectionsAgreeWithNetHTTP(f *testing.F) {
	for _, text := range strays {
		f.Add([]byte(text), uint16(1), uint16(20), true)
		f.Add([]byte(text), uint16(len(plainOrder)), uint16(2), false)
	}
	f.Add([]byte("POST /plain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
		uint16(9), uint16(0), true)
	servers := startPair(f)
	f.Fuzz(func(t *testing.T, text []byte, first, second uint16, alone bool) {
		if len(text) == 0 || len(text) > 2<<10 {
			return
		}
		pieces := cut(string(text), first, second)
		if !alone {
			pieces = append(pieces, lastRequest)
		}
		require.Equal(t, converse(t, servers.whole, pieces, true), converse(t, servers.express, pieces, true), "%q",
			pieces)
	})
}
