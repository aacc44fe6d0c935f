package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"sluice/api"
	"sluice/gateway/ratelimit"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
)

// What asks about orders has a limit of its own: whoever polls too much may still buy, and whoever
// buys too much may still look.
func TestReadsHaveALimitOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) {
		c.limits = ratelimit.Config{PerUserRPS: 0.01, PerUserBurst: 2, PerUserReadsRPS: 0.01, PerUserReadsBurst: 4}
	})
	s.sell("phone", 50, limitOf(5))
	path := s.place("ann", "phone")
	require.Equal(t, http.StatusOK, s.get("ann", path).status)
	require.Equal(t, http.StatusOK, s.get("ann", "/v1/orders").status)
	require.Equal(t, http.StatusOK, s.do("ann", http.MethodDelete, path, "").status)
	require.Equal(t, http.StatusNoContent, s.do("ann", http.MethodGet, path+"/events", "", "Last-Event-ID",
		"cancelled").status)
	for _, g := range []got{s.get("ann", path), s.get("ann", path+"?wait=5s"), s.get("ann", path+"/events"),
		s.get("ann", "/v1/orders"),
		s.do("ann", http.MethodDelete, path, "")} {
		s.refused(api.CodeRateLimited, g)
		require.Equal(t, `"per-user-reads";q=1;w=100`, g.header.Get("RateLimit-Policy"))
		require.InDelta(t, 100, g.retryAfter(), 5)
	}
	s.place("ann", "phone")
	s.refused(api.CodeRateLimited, s.order("ann", "phone", ""))
	require.Equal(t, http.StatusOK, s.get("bob", "/v1/orders").status)
	s.place("bob", "phone")
	require.Equal(t, http.StatusOK, s.get("ann", "/v1/sales/phone").status, "what is on sale is nobody's order")
}

// A sale may bear more, or fewer, of those without a valid token than the others do.
func TestASalesOwnLimitPerAddress(t *testing.T) {
	t.Parallel()
	one := 0.001
	s := newStack(t, func(c *setup) {
		c.limits = ratelimit.Config{PerIPRPS: 0.001, PerIPBurst: 3,
			Sales: map[string]ratelimit.SaleConfig{"tv": {PerIPRPS: &one}}}
	})
	s.sell("phone", 5)
	s.sell("tv", 5)
	s.refused(api.CodeUnauthorized, s.order("", "tv", ""))
	s.refused(api.CodeRateLimited, s.order("", "tv", ""))
	for range 3 {
		s.refused(api.CodeUnauthorized, s.order("", "phone", ""))
	}
	s.refused(api.CodeRateLimited, s.order("", "phone", ""))
	s.refused(api.CodeRateLimited, s.get("", "/v1/orders"))
	s.place("ann", "tv")
	s.place("ann", "phone")
}

// Whoever the global limit sends away is told to come back when their own limit lets them, too.
func TestRetryAfterOfAllLimits(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) {
		c.limits = ratelimit.Config{PerUserRPS: 0.1, PerUserBurst: 1, GlobalRPS: 1, GlobalBurst: 1}
	})
	s.sell("phone", 50)
	s.place("ann", "phone")
	g := s.refused(api.CodeRateLimited, s.order("bob", "phone", ""))
	require.Contains(t, g.header.Get("RateLimit-Policy"), "global")
	require.InDelta(t, 10, g.retryAfter(), 2)
}

func TestLimiterRefusalOnTheWire(t *testing.T) {
	t.Parallel()
	l := ratelimit.New(ratelimit.Config{PerUserRPS: 2, PerUserBurst: 3, PerIPRPS: 0.5, PerIPBurst: 1}, fixedClock)
	for range 3 {
		l.AllowUser("", "ann")
	}
	w := answerWith(limited(l.AllowUser("", "ann")))
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, `"per-user";q=2;w=1`, w.Header().Get("RateLimit-Policy"))
	require.Equal(t, `"per-user";r=0;t=1`, w.Header().Get("RateLimit"))
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	l.AllowAnonymous("", "192.0.2.1")
	w = answerWith(limited(l.AllowAnonymous("", "192.0.2.1")))
	require.Equal(t, `"per-ip";q=1;w=2`, w.Header().Get("RateLimit-Policy"))
	require.Equal(t, "2", w.Header().Get("Retry-After"))
}

// answerWith writes p as a handler would.
func answerWith(p api.Problem) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(w)
	c.Request = httptest.NewRequest(http.MethodPost, "/", nil)
	api.WriteProblem(c, p)
	return w
}
