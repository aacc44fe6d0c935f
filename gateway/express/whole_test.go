package express

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tellAll answers with everything that a handler can see of a request.
func tellAll(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var header []string
	for name, values := range r.Header {
		header = append(header, fmt.Sprintf("%s=%q", name, values))
	}
	slices.Sort(header)
	fmt.Fprintf(w, "%s %s %s %q %v %d %q %v", r.Method, r.URL, r.Host, header, r.Close, r.ContentLength, body, err)
}

// pair is the addresses of both servers with the same handler.
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
			express := New(server, plainPath, 0)
			go func() { _ = express.Serve(ln) }()
			tb.Cleanup(func() { _ = express.Close() })
		} else {
			go func() { _ = server.Serve(ln) }()
			tb.Cleanup(func() { _ = server.Close() })
		}
		return ln.Addr().String()
	}
	return pair{express: listen(true), whole: listen(false)}
}

// converse sends pieces on one connection, ends its side, and returns all answers as text. torn says that the server
// reset the connection while bytes were on their way, so that the last answers may be lost.
func converse(tb testing.TB, addr string, pieces []string) ([]string, bool) {
	tb.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // it has a deadline
	require.NoError(tb, err)
	defer c.Close()
	require.NoError(tb, c.SetDeadline(time.Now().Add(20*time.Second)))
	torn := false
	for i, piece := range pieces {
		if i > 0 {
			// So the pieces are mostly read one by one. The answers must be the same either way.
			time.Sleep(300 * time.Microsecond)
		}
		if _, err := io.WriteString(c, piece); err != nil {
			torn = true // the connection may end with an answer before the rest is sent
			break
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	r, answers := bufio.NewReader(c), []string{}
	for {
		resp, err := http.ReadResponse(r, nil)
		var body []byte
		if err == nil {
			body, err = io.ReadAll(resp.Body)
		}
		require.NotErrorIs(tb, err, os.ErrDeadlineExceeded, "%q", pieces)
		if torn = torn || errors.Is(err, syscall.ECONNRESET); resp == nil || torn && err != nil {
			return answers, torn
		}
		resp.Header.Del("Date")
		resp.Header.Del("Content-Length") // net/http leaves it out where an answer has outgrown its buffer
		answers = append(answers, fmt.Sprintf("%s %s %v %q %v", resp.Proto, resp.Status, resp.Header, body, err))
	}
}

// agree compares the answers of both servers. Torn answers are compared as far as they go. Then all is sent in one
// piece, which the servers read before they close.
func (p pair) agree(tb testing.TB, pieces []string) {
	tb.Helper()
	want, torn := converse(tb, p.whole, pieces)
	got, tornToo := converse(tb, p.express, pieces)
	if torn || tornToo {
		n := min(len(want), len(got))
		require.Equal(tb, want[:n], got[:n], "%q", pieces)
		if len(pieces) > 1 {
			p.agree(tb, []string{strings.Join(pieces, "")})
		}
		return
	}
	require.Equal(tb, want, got, "%q", pieces)
}

// cut splits a text at up to three places.
func cut(text string, at ...uint16) (pieces []string) {
	for _, n := range at {
		if int(n) > 0 && int(n) < len(text) {
			pieces, text = append(pieces, text[:n]), text[n:]
		}
	}
	return append(pieces, text)
}

const lastRequest = "GET /plain/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// strays returns conversations in which the servers once differed, or might.
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
	// What servers in a row read in two ways:
	posted("Content-Length: 2\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
	posted("Transfer-Encoding: chunked\r\nContent-Length: 2", "2;x\r\nhi\r\n0\r\nX: y\r\n\r\n"),
	posted("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
	posted("Transfer-Encoding:\x0bchunked\r\nContent-Length: 2", "hi"),
	posted("Transfer-Encoding : chunked\r\nContent-Length: 2", "hi"),
	posted("X: a\nTransfer-Encoding: chunked\r\nContent-Length: 2", "hi"),
	posted("X: a\rTransfer-Encoding: chunked\r\nContent-Length: 2", "hi"),
	posted("X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 2", "hi"),
	posted("Content-Length: 2\r\nContent-Length: 0", "hi"),
	posted("Content-Length: 2\r\nContent-Length: 2", "hi"),
	posted("Content-Length: 2, 2", "hi"),
	posted("Content-Length: +2", "hi"),
	posted("Content-Length: 0x2", "hi"),
	posted("Content-Length:\x0b2", "hi"),
	posted("Content-Length : 2", "hi"),
	posted("Content-Length: 2\n", "hi"),
	posted("content-length: 002 \t", "hi"),
	posted("Content-Length: 0", "hi"),
	posted("Connection: Content-Length\r\nContent-Length: 2", "hi"),
	posted("Content-Length: 2", "hi"+plainOrder+plainOrder),
	posted("Expect: 100-continue\r\nContent-Length: 2", "hi"),
	posted("X: a\x00b", ""),
}

// posted returns a POST with these header lines and this body.
func posted(lines, body string) string {
	return "POST /plain HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n\r\n" + body
}

// TestConnectionsAreAnsweredAsByNetHTTP compares whole connections with net/http, with stray bytes and in different
// pieces.
func TestConnectionsAreAnsweredAsByNetHTTP(t *testing.T) {
	t.Parallel()
	servers := startPair(t)
	for _, text := range strays {
		for _, after := range []string{"", lastRequest} {
			for _, at := range []uint16{0, 1, uint16(len(plainOrder)), uint16(len(plainOrder)) + 1, uint16(len(text))} {
				servers.agree(t, cut(text+after, at))
			}
		}
	}
}

// TestLineBreaksBehindAPostAreDropped checks that a connected client is answered after stray line breaks.
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

// TestAnEndThatComesWithTheBytesIsSeen checks that a client's end is noticed at once when it comes with its bytes.
func TestAnEndThatComesWithTheBytesIsSeen(t *testing.T) {
	t.Parallel()
	for _, text := range []string{plainOrder[:20], plainOrder[:len(plainOrder)-1], "GE", ""} {
		began, release := make(chan struct{}), make(chan struct{})
		s := start(t, 0, func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/plain/held" {
				began <- struct{}{}
				<-release
			}
		})
		soon(t, text, quietAfter, func() {
			c := dial(t, s.addr)
			c.send("GET /plain/held HTTP/1.1\r\nHost: x\r\n\r\n")
			<-began
			c.send(text)
			require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
			release <- struct{}{}
			_, err := io.ReadAll(c.Reader)
			require.NoError(t, err)
		})
	}
}

// soon requires that try takes less than limit, the time that express would otherwise wait. A busy machine gets more
// tries.
func soon(t *testing.T, what string, limit time.Duration, try func()) {
	t.Helper()
	var took time.Duration
	for range 10 {
		begun := time.Now()
		try()
		if took = time.Since(begun); took < limit {
			return
		}
	}
	require.Fail(t, "too slow", "%q took %v", what, took)
}

// TestABareLineFeedIsHandedOverAtOnce checks that an incomplete header for net/http is handed over at once.
func TestABareLineFeedIsHandedOverAtOnce(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"GET /plain HTTP/1.1\nHost: x\n\n", "GET /plain HTTP/1.1\r\nHost: x\n\r\n", "FOO\r\n",
	} {
		s := start(t, 0, tellLane)
		soon(t, text, patience, func() {
			c := dial(t, s.addr)
			c.send(text)
			c.answer()
		})
	}
}

// FuzzConnectionsAgreeWithNetHTTP checks that both servers give the same answers to the same bytes. Minimizing an input
// takes long; -fuzzminimizetime 50x bounds that.
func FuzzConnectionsAgreeWithNetHTTP(f *testing.F) {
	for _, text := range strays {
		f.Add([]byte(text), uint16(1), uint16(20), true)
		f.Add([]byte(text), uint16(len(plainOrder)), uint16(2), false)
	}
	f.Add([]byte("T / HTTP/1.1/Host:\ncontent-length:2\n\nGET /Glain HTTP\n1.1\nHost: x\n"), uint16(2), uint16(0),
		false)
	f.Add([]byte("ST /p HTTP/1gth: 2\r\n\r\nhi\n"), uint16(1), uint16(18), false) // answered before everything is sent
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
		servers.agree(t, pieces)
	})
}
