package gateway_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway/ratelimit"
	"sluice/internal/testkit/stack"
)

// What asks about orders has a limit of its own: whoever polls too much may still buy, and whoever
// buys too much may still look.
func TestReadsHaveALimitOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) {
		c.Limits = ratelimit.Config{PerUserRPS: 0.01, PerUserBurst: 2, PerUserReadsRPS: 0.01, PerUserReadsBurst: 4}
	})
	s.Sell("phone", 50, stack.LimitOf(5))
	path := s.Place("ann", "phone")
	require.Equal(t, http.StatusOK, s.Get("ann", path).Status)
	require.Equal(t, http.StatusOK, s.Get("ann", "/v1/orders").Status)
	require.Equal(t, http.StatusOK, s.Do("ann", http.MethodDelete, path, "").Status)
	require.Equal(t, http.StatusNoContent, s.Do("ann", http.MethodGet, path+"/events", "", "Last-Event-ID",
		"cancelled").Status)
	for _, g := range []stack.Answer{s.Get("ann", path), s.Get("ann", path+"?wait=5s"), s.Get("ann", path+"/events"),
		s.Get("ann", "/v1/orders"),
		s.Do("ann", http.MethodDelete, path, "")} {
		s.Refused(api.CodeRateLimited, g)
		require.Equal(t, `"per-user-reads";q=1;w=100`, g.Header.Get("RateLimit-Policy"))
		require.InDelta(t, 100, g.RetryAfter(), 5)
	}
	s.Place("ann", "phone")
	s.Refused(api.CodeRateLimited, s.Order("ann", "phone", ""))
	require.Equal(t, http.StatusOK, s.Get("bob", "/v1/orders").Status)
	s.Place("bob", "phone")
	require.Equal(t, http.StatusOK, s.Get("ann", "/v1/sales/phone").Status, "what is on sale is nobody's order")
}

// A sale may bear more, or fewer, of those without a valid token than the others do.
func TestASalesOwnLimitPerAddress(t *testing.T) {
	t.Parallel()
	one := 0.001
	s := newWorld(t, func(c *stack.Setup) {
		c.Limits = ratelimit.Config{PerIPRPS: 0.001, PerIPBurst: 3,
			Sales: map[string]ratelimit.SaleConfig{"tv": {PerIPRPS: &one}}}
	})
	s.Sell("phone", 5)
	s.Sell("tv", 5)
	s.Refused(api.CodeUnauthorized, s.Order("", "tv", ""))
	s.Refused(api.CodeRateLimited, s.Order("", "tv", ""))
	for range 3 {
		s.Refused(api.CodeUnauthorized, s.Order("", "phone", ""))
	}
	s.Refused(api.CodeRateLimited, s.Order("", "phone", ""))
	s.Refused(api.CodeRateLimited, s.Get("", "/v1/orders"))
	s.Place("ann", "tv")
	s.Place("ann", "phone")
}

// Whoever the global limit sends away is told to come back when their own limit lets them, too.
func TestRetryAfterOfAllLimits(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) {
		c.Limits = ratelimit.Config{PerUserRPS: 0.1, PerUserBurst: 1, GlobalRPS: 1, GlobalBurst: 1}
	})
	s.Sell("phone", 50)
	s.Place("ann", "phone")
	g := s.Refused(api.CodeRateLimited, s.Order("bob", "phone", ""))
	require.Contains(t, g.Header.Get("RateLimit-Policy"), "global")
	require.InDelta(t, 10, g.RetryAfter(), 2)
}
