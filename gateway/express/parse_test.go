package express

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const orderPath = "/v1/sales/phone/orders"

func everything(string, string) bool { return true }

func parsed(t testing.TB, text string) (*exchange, readResult) {
	t.Helper()
	x := newExchange()
	require.LessOrEqual(t, len(text), maxRequest)
	x.in = append(x.in, text...)
	return x, x.parse(New(&http.Server{MaxHeaderBytes: 4 << 10}, everything, 0))
}

func order(lines ...string) string {
	return "POST " + orderPath + " HTTP/1.1\r\nHost: shop\r\n" + strings.Join(lines, "")
}

// TestOnlyThePlainFormIsServedHere checks that any other form goes to net/http. Two readings of the same bytes would
// allow request smuggling.
func TestOnlyThePlainFormIsServedHere(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		order("\r\n"),
		order("Content-Length: 2\r\n\r\n{}"),
		order("content-length: 002\r\nConnection: Keep-Alive\r\nX-Any: \t a b \r\n\r\n{}"),
		"GET /v1/sales/phone HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
	} {
		_, v := parsed(t, text)
		require.Equal(t, whole, v, text)
	}
	for name, text := range map[string]string{
		"two lengths":           order("Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
		"a list of lengths":     order("Content-Length: 2, 2\r\n\r\n{}"),
		"a signed length":       order("Content-Length: +2\r\n\r\n{}"),
		"an empty length":       order("Content-Length:\r\n\r\n"),
		"chunks":                order("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
		"chunks and a length":   order("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"),
		"a second request":      order("Content-Length: 2\r\n\r\n{}GET"),
		"a body without length": order("\r\n{}"),
		"a GET with a body":     "GET /v1/sales/phone HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\n{}",
		"too long a body":       order("Content-Length: 9000\r\n\r\n"),
		"no host":               "POST " + orderPath + " HTTP/1.1\r\n\r\n",
		"two hosts":             order("Host: other\r\n\r\n"),
		"a strange host":        "POST " + orderPath + " HTTP/1.1\r\nHost: a b\r\n\r\n",
		"expectation":           order("Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
		"upgrade":               order("Upgrade: websocket\r\n\r\n"),
		"close":                 order("Connection: close\r\n\r\n"),
		"a hop's own header":    order("Connection: keep-alive, X-Any\r\nX-Any: 1\r\n\r\n"),
		"a folded line":         order("X-Any: a\r\n b\r\n\r\n"),
		"space before colon":    order("X-Any : a\r\n\r\n"),
		"no colon":              order("X-Any\r\n\r\n"),
		"no name":               order(": a\r\n\r\n"),
		"bare line feed":        order("X-Any: a\nX-Other: b\r\n\r\n"),
		"bare carriage return":  order("X-Any: a\rb\r\n\r\n"),
		"a zero byte":           order("X-Any: a\x00\r\n\r\n"),
		"not ASCII":             order("X-Any: \xc3\xa4\r\n\r\n"),
		"a header twice":        order("X-Any: a\r\nx-any: b\r\n\r\n"),
		"HTTP/1.0":              "POST " + orderPath + " HTTP/1.0\r\nHost: shop\r\n\r\n",
		"HTTP/2 preface":        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"another method":        "DELETE " + orderPath + " HTTP/1.1\r\nHost: shop\r\n\r\n",
		"a query":               "GET /v1/sales/phone?a=b HTTP/1.1\r\nHost: shop\r\n\r\n",
		"an escape":             "GET /v1/sales/ph%6fne HTTP/1.1\r\nHost: shop\r\n\r\n",
		"a whole address":       "GET http://shop/v1/sales HTTP/1.1\r\nHost: shop\r\n\r\n",
		"two spaces":            "GET  /v1/sales HTTP/1.1\r\nHost: shop\r\n\r\n",
		"no path":               "GET HTTP/1.1\r\nHost: shop\r\n\r\n",
		"many headers":          order(strings.Repeat("X: 1\r\n", maxHeaders), "\r\n"),
		"a long header":         order("X-Any: ", strings.Repeat("a", 4<<10), "\r\n\r\n"),
	} {
		_, v := parsed(t, text)
		require.Equal(t, strange, v, name)
	}
}

func TestARequestMayComeInPieces(t *testing.T) {
	t.Parallel()
	text := order("Content-Type: application/json\r\nContent-Length: 14\r\n\r\n", `{"quantity":1}`)
	x := newExchange()
	s := New(&http.Server{}, everything, 0)
	for i := range len(text) {
		if i > 0 {
			require.Equal(t, partial, x.parse(s), "after %d bytes", i)
		}
		x.in = append(x.in, text[i])
	}
	require.Equal(t, whole, x.parse(s))
	require.Equal(t, `{"quantity":1}`, string(x.body.Bytes()))
	require.Equal(t, http.Header{"Content-Type": {"application/json"}, "Content-Length": {"14"}}, x.request.Header)
}

// FuzzParseAgreesWithNetHTTP checks that net/http reads every accepted request the same.
func FuzzParseAgreesWithNetHTTP(f *testing.F) {
	for _, seed := range []string{order("\r\n"), order("Content-Length: 2\r\n\r\n{}"),
		order("Pragma: no-cache\r\n\r\n"), order("X: \t a \r\nhost2: b\r\n\r\n"),
		order("Content-Length: 00002\r\nCookie: a=b; c=d\r\n\r\n{}"), "GET //a/../b HTTP/1.1\r\nHost: a:1\r\n\r\n",
		order("TE: trailers\r\n\r\n"), order("Content-Length: 2\n\r\n\r\n{}")} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > maxRequest {
			return
		}
		x, v := parsed(t, string(text))
		if v != whole {
			return
		}
		rest := bufio.NewReader(bytes.NewReader(text))
		want, err := http.ReadRequest(rest)
		require.NoError(t, err)
		body, err := io.ReadAll(want.Body)
		require.NoError(t, err)
		require.Zero(t, rest.Buffered(), "bytes are left over")
		got := &x.request
		require.Equal(t, []any{want.Method, want.URL.Path, want.URL.RawQuery, want.URL.RawPath, want.Host,
			want.RequestURI, want.ContentLength, want.Proto, want.Close},
			[]any{got.Method, got.URL.Path, got.URL.RawQuery, got.URL.RawPath, got.Host, got.RequestURI,
				got.ContentLength, got.Proto, got.Close})
		require.Equal(t, want.Header, got.Header)
		mine, err := io.ReadAll(got.Body)
		require.NoError(t, err)
		require.Equal(t, strconv.Quote(string(body)), strconv.Quote(string(mine)))
	})
}

// BenchmarkParse measures parsing one plain order.
func BenchmarkParse(b *testing.B) {
	text := order("Authorization: Bearer " + strings.Repeat("t", 200) +
		"\r\nContent-Type: application/json\r\nIdempotency-Key: click-00000001\r\nContent-Length: " +
		"14\r\n\r\n{\"quantity\":1}")
	server, x := New(&http.Server{MaxHeaderBytes: 4 << 10}, everything, 0), newExchange()
	b.ReportAllocs()
	for b.Loop() {
		clear(x.header)
		x.in = append(x.in[:0], text...)
		if x.parse(server) != whole {
			b.Fatal("not plain")
		}
	}
}
