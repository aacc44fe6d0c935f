package gateway_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit/stack"
)

// raw sends text as it is and reads one answer; status 0 is a connection that
// was closed without one.
func raw(t *testing.T, addr, text string) (int, string) {
	t.Helper()
	conn := dial(t, addr, text)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // a refusal may be followed by a reset
	return resp.StatusCode, string(body)
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

// Whatever is thrown at the gateway, it costs no ticket, no unit and, as
// TestMain proves, no goroutine.
func TestHostileRequestsCostNothing(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) {
		c.HTTP.ReadHeaderTimeout, c.HTTP.ReadTimeout, c.HTTP.WriteTimeout = 200*time.Millisecond,
			400*time.Millisecond, 2*time.Second
	})
	s.Sell("phone", 5, stack.LimitOf(5))
	bearer := "Authorization: Bearer " + s.Token("ann", false) + "\r\n"
	post := func(more string) string {
		return "POST /v1/sales/phone/orders HTTP/1.1\r\nHost: x\r\n" + bearer + more
	}
	for name, one := range map[string]struct {
		text   string
		status int
	}{
		"slow header":        {post("X-Slow: "), 0},
		"slow body":          {post("Content-Length: 100\r\n\r\n{\"quan"), 400},
		"no chunk":           {post("Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 400},
		"two lengths":        {post("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), 400},
		"negative length":    {post("Content-Length: -1\r\n\r\n{}"), 400},
		"declared too large": {post("Content-Length: 99999999\r\n\r\n{}"), 413},
		"huge header":        {post("X-Huge: " + strings.Repeat("a", 100<<10) + "\r\n\r\n"), 431},
		"not HTTP":           {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
		"old HTTP, bad body": {"POST /v1/sales/phone/orders HTTP/1.0\r\n" + bearer +
			"Content-Length: 1\r\n\r\n{", 400},
		"no host":                {"POST /v1/sales/phone/orders HTTP/1.1\r\n" + bearer + "\r\n", 400},
		"line break in the sale": {"POST /v1/sales/a%0d%0aX:y/orders HTTP/1.1\r\nHost: x\r\n" + bearer + "\r\n", 404},
		"braces in the sale":     {"POST /v1/sales/%7Bphone%7D/orders HTTP/1.1\r\nHost: x\r\n" + bearer + "\r\n", 404},
		"path traversal":         {"GET /v1/sales/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"hidden path traversal":  {"GET /v1/sales/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"admin from outside":     {"GET /admin/v1/sales HTTP/1.1\r\nHost: x\r\n" + bearer + "\r\n", 404},
		"profiles from outside":  {"GET /debug/pprof/ HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"metrics from outside":   {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"PUT":                    {"PUT /v1/sales/phone/orders HTTP/1.1\r\nHost: x\r\n" + bearer + "\r\n", 405},
		"a method of its own":    {"BUY /v1/sales/phone/orders HTTP/1.1\r\nHost: x\r\n" + bearer + "\r\n", 405},
		"trailing slash":         {"POST /v1/sales/phone/orders/ HTTP/1.1\r\nHost: x\r\n" + bearer + "\r\n", 404},
		"two authorizations":     {post(bearer + "\r\n"), 401},
		"two keys":               {post("Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 0\r\n\r\n"), 400},
		"line break in the key":  {post("Idempotency-Key: \"a\tb\"\r\nContent-Length: 0\r\n\r\n"), 400},
		"compressed": {post(
			"Content-Encoding: gzip\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"), 415},
		"a user of the proxy's":  {"POST /v1/sales/phone/orders HTTP/1.1\r\nHost: x\r\nX-User: ann\r\n\r\n", 401},
		"expectation nobody has": {post("Expect: magic\r\nContent-Length: 2\r\n\r\n{}"), 417},
		"a body that is too long": {post("Transfer-Encoding: chunked\r\n\r\n5000\r\n" + strings.Repeat(" ", 0x5000) +
			"\r\n0\r\n\r\n"), 413},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := raw(t, s.Addr, one.text)
			require.Equal(t, one.status, status, body)
			require.NotContains(t, body, "passwd")
		})
	}
	head := s.Do("ann", http.MethodHead, "/v1/sales/phone", "")
	require.Equal(t, http.StatusMethodNotAllowed, head.Status)
	require.Equal(t, "GET", head.Header.Get("Allow"))
	s.Refused(api.CodeMethodNotAllowed, s.Do("ann", http.MethodPut, "/v1/sales/phone", "{}"))
	status, body := raw(t, s.Addr, "GET /v1/sales/phone HTTP/1.0\r\n\r\n")
	require.Equal(t, http.StatusOK, status, body)

	require.Zero(t, s.View("phone").Seq)
	require.EqualValues(t, 5, s.View("phone").Stock)
	s.Clean()
}

func sign(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	text, err := jwt.NewWithClaims(method, claims).SignedString(key)
	require.NoError(t, err)
	return text
}

func TestForeignTokensAreRefused(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 5)
	claims := jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, token := range map[string]string{
		"none":              sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims),
		"another algorithm": sign(t, jwt.SigningMethodHS512, []byte(stack.Secret), claims),
		"another kind":      sign(t, jwt.SigningMethodEdDSA, private, claims),
		"another secret":    sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), claims),
		"expired": sign(t, jwt.SigningMethodHS256, []byte(stack.Secret),
			jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(-time.Hour).Unix()}),
		"without an end": sign(t, jwt.SigningMethodHS256, []byte(stack.Secret), jwt.MapClaims{"sub": "ann"}),
		"without a user": sign(t, jwt.SigningMethodHS256, []byte(stack.Secret),
			jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix()}),
		"a tab in the user": sign(t, jwt.SigningMethodHS256, []byte(stack.Secret),
			jwt.MapClaims{"sub": "ann\tq", "exp": time.Now().Add(time.Hour).Unix()}),
		"nonsense": "a.b.c",
		"huge":     strings.Repeat("a", 5000),
	} {
		g, err := s.TryOrder(t.Context(), token, "phone", "")
		require.NoError(t, err, name)
		s.Refused(api.CodeUnauthorized, g)
		require.Contains(t, g.Header.Get("WWW-Authenticate"), `error="invalid_token"`, name)
	}
	require.Zero(t, s.View("phone").Seq)
	s.Clean()
}

// Users whose names the line's own records could misread.
func TestUsersWithStrangeNamesStayApart(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 50)
	for _, user := range []string{"a:b", "a,b", "a,b:1:1", "{a}", "a b", "é", "e\u0301", "%s", "'; DROP TABLE orders",
		strings.Repeat("u", 128), "__proto__", "ann", "Ann"} {
		path := s.Place(user, "phone")
		g := s.Refused(api.CodeLimitReached, s.Order(user, "phone", ""))
		require.True(t, strings.HasSuffix(path, g.Text("order_id")), user)
		require.Len(t, s.Get(user, "/v1/orders").Body["orders"], 1, user)
	}
	s.Work()
	require.Eventually(t, func() bool { return !s.View("phone").InFlight() }, stack.Patience, 10*time.Millisecond)
	require.Len(t, s.Get("Ann", "/v1/orders").Body["orders"], 1)
	s.Clean()
}

// A client that hangs up finds its ticket wholly there or not at all, and
// asking again with the same key gets it.
func TestHangingUpLeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 100)
	var shoppers sync.WaitGroup
	for i := range 60 {
		token := s.Token(fmt.Sprintf("user-%d", i), false)
		shoppers.Go(func() {
			ctx, hangUp := context.WithTimeout(t.Context(), time.Duration(i)*200*time.Microsecond)
			defer hangUp()
			_, _ = s.TryOrder(ctx, token, "phone", "", key, "k")
		})
	}
	shoppers.Wait()
	require.Eventually(t, func() bool {
		return s.Gateway.Admitter().Coalescer.InFlight() == 0
	}, stack.Patience, time.Millisecond)
	s.Clean()
	// A request that was given up may come to the gateway only now. It or this one makes the ticket, never both.
	for i := range 60 {
		g := s.Order(fmt.Sprintf("user-%d", i), "phone", "", key, "k")
		require.Equal(t, http.StatusAccepted, g.Status, g.Raw)
	}
	require.EqualValues(t, 60, s.View("phone").Seq)
	require.EqualValues(t, 40, s.View("phone").Stock)
	s.Clean()
}
