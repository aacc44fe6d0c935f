package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway/ratelimit"
)

func TestLimiterRefusalOnTheWire(t *testing.T) {
	t.Parallel()
	clock := func() time.Time { return time.Unix(1_800_000_000, 0) }
	l := ratelimit.New(ratelimit.Config{PerUserRPS: 2, PerUserBurst: 3, PerIPRPS: 0.5, PerIPBurst: 1}, clock)
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
