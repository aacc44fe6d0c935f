package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
)

// allCodes are those of the public listener.
var allCodes = []Code{
	CodeInvalidRequest, CodeUnauthorized, CodeNotFound, CodeMethodNotAllowed, CodeSaleNotStarted, CodeSaleEnded,
	CodeSalePaused, CodeLimitReached, CodeSoldOut, CodeNotCancellable, CodeIdempotencyMismatch, CodeTooLarge,
	CodeUnsupportedMedia, CodeRateLimited, CodeQueueFull, CodeUnavailable, CodeInternal,
	CodeConflict, CodeNotConfirmed,
}

// answer writes p as a handler would, for a client with this Accept header.
func answer(t testing.TB, p Problem, accept ...string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(w)
	c.Request = httptest.NewRequest(http.MethodPost, "/", nil)
	c.Request.Header["Accept"] = accept
	AssignRequestID()(c)
	WriteProblem(c, p)
	require.True(t, c.IsAborted())
	return w
}

func TestEveryCodeIsAProblem(t *testing.T) {
	t.Parallel()
	for _, code := range allCodes {
		w := answer(t, NewProblem(code, "why"))
		var got map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		require.Equal(t, "urn:sluice:problem:"+string(code), got["type"])
		require.Equal(t, string(code), got["code"])
		require.NotEmpty(t, got["title"])
		require.EqualValues(t, w.Code, got["status"])
		require.Equal(t, w.Header().Get("X-Request-ID"), got["request_id"])
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
}

func TestStatusesOfTheContract(t *testing.T) {
	t.Parallel()
	for code, status := range map[Code]int{
		CodeInvalidRequest: 400, CodeUnauthorized: 401, CodeNotFound: 404, CodeSaleNotStarted: 403, CodeSaleEnded: 410,
		CodeSalePaused: 503, CodeLimitReached: 409, CodeSoldOut: 409, CodeIdempotencyMismatch: 422, CodeTooLarge: 413,
		CodeRateLimited: 429, CodeQueueFull: 503, CodeUnavailable: 503,
	} {
		require.Equal(t, status, NewProblem(code, "").Status, code)
	}
}

func TestRetryAfterHeader(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code Code
		wait time.Duration
		want string
	}{
		{CodeQueueFull, 0, "1"},
		{CodeQueueFull, time.Millisecond, "1"},
		{CodeUnavailable, 2*time.Second + 1, "3"},
		{CodeSalePaused, 3 * time.Second, "3"},
		{CodeSaleNotStarted, time.Hour, "3600"},
		{CodeSoldOut, time.Second, ""}, // there is nothing to come back for
		{CodeLimitReached, time.Second, ""},
	} {
		p := NewProblem(test.code, "")
		p.RetryAfter = test.wait
		require.Equal(t, test.want, answer(t, p).Header().Get("Retry-After"), test.code)
	}
}

func TestRetryAfterSpreads(t *testing.T) {
	t.Parallel()
	least, most := time.Hour, time.Duration(0)
	for range 2000 {
		d := RetryAfter(2*time.Second, 6*time.Second)
		require.GreaterOrEqual(t, d, 2*time.Second)
		require.LessOrEqual(t, d, 8*time.Second)
		least, most = min(least, d), max(most, d)
	}
	require.Less(t, least, 3*time.Second)
	require.Greater(t, most, 7*time.Second)
	require.Equal(t, time.Second, RetryAfter(time.Second, 0))
}

func TestInternalErrorsTellNothing(t *testing.T) {
	t.Parallel()
	for _, code := range []Code{CodeInternal, "no such code"} {
		w := answer(t, NewProblem(code, "dial tcp 10.0.0.7: password wrong"))
		require.Equal(t, http.StatusInternalServerError, w.Code)
		require.NotContains(t, w.Body.String(), "10.0.0.7")
		require.Contains(t, w.Body.String(), `"code":"internal"`)
	}
}

func TestExtensionMembers(t *testing.T) {
	t.Parallel()
	p := InvalidRequest(FieldError{"quantity", "rule"})
	require.Contains(t, answer(t, p).Body.String(), `"errors":[{"field":"quantity","detail":"rule"}]`)
	p = NewProblem(CodeLimitReached, "")
	p.OrderID = "o-1"
	require.Contains(t, answer(t, p).Body.String(), `"order_id":"o-1"`)
	p = NewProblem(CodeSaleNotStarted, "")
	p.StartsAt = "2026-11-11T00:00:00.000Z"
	require.Contains(t, answer(t, p).Body.String(), `"starts_at":"2026-11-11T00:00:00.000Z"`)
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	require.Equal(t, `Bearer realm="sluice"`, answer(t,
		Unauthorized("no token", false)).Header().Get("WWW-Authenticate"))
	require.Equal(t, `Bearer realm="sluice", error="invalid_token"`,
		answer(t, Unauthorized("expired", true)).Header().Get("WWW-Authenticate"))
}

func TestBusyRedirect(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		accept string
		html   bool
	}{
		{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", true},
		{"text/html", true},
		{"TEXT/HTML ; Q=0.5", true},
		{"text/*", true},
		{"*/*, text/html", true},
		{"text/html;q=0.9, application/json;q=0.8", true},
		{"*/*", false},
		{"", false},
		{"application/json", false},
		{"text/html, application/json", false},
		{"text/html;q=0.5, application/problem+json", false},
		{"application/json;q=0.1, application/problem+json, text/html;q=0.5", false},
		{"text/html;q=0", false},
		{"text/html;q=2", false},
		{"text/html;q=NaN", false},
		{"text/htmlx", false},
		{"image/png", false},
	} {
		p := NewProblem(CodeQueueFull, "")
		p.BusyURL = "/busy"
		w := answer(t, p, test.accept)
		if !test.html {
			require.Equal(t, http.StatusServiceUnavailable, w.Code, test.accept)
			require.Equal(t, "Accept", w.Header().Get("Vary"))
			continue
		}
		require.Equal(t, http.StatusSeeOther, w.Code, test.accept)
		require.Equal(t, "/busy", w.Header().Get("Location"))
		require.NotEmpty(t, w.Header().Get("Retry-After"))
		require.Empty(t, w.Body.String())
	}
	other := NewProblem(CodeUnavailable, "")
	other.BusyURL = "/busy"
	require.Equal(t, http.StatusServiceUnavailable, answer(t, other, "text/html").Code)
	require.Equal(t, http.StatusServiceUnavailable, answer(t, NewProblem(CodeQueueFull, ""), "text/html").Code)
}

func BenchmarkWriteProblem(b *testing.B) {
	p := NewProblem(CodeSoldOut, "No unit is left.")
	b.ReportAllocs()
	for b.Loop() {
		answer(b, p)
	}
}
