package gateway_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
)

// What Redis refuses by its state, memory or authority is answered 503 on every route that needs
// it, and all is well again when it serves.
func TestEveryRefusalOfRedisIsUnavailable(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cause, end []any
	}{
		"memory": {cause: []any{"CONFIG", "SET", "maxmemory", "1mb"}, end: []any{"CONFIG", "SET", "maxmemory", "0"}},
		"password": {cause: []any{"CONFIG", "SET", "requirepass", "later"},
			end: []any{"CONFIG", "SET", "requirepass", ""}},
		"rights": {
			cause: []any{"ACL", "SETUSER", "default", "-@scripting", "-@transaction"},
			end:   []any{"ACL", "SETUSER", "default", "+@all"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t)
			s := newWorld(t, func(c *stack.Setup) { c.Redis = server.Addr() })
			s.Sell("phone", 50)
			path := s.Place("ann", "phone")
			admin := server.Client()
			require.NoError(t, admin.Ping(t.Context()).Err()) // this connection stays who it was
			require.NoError(t, admin.Do(t.Context(), tt.cause...).Err())
			// Who is connected stays who it was.
			require.NoError(t, admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())

			g := s.Refused(api.CodeUnavailable, s.Order("bob", "phone", `{}`))
			require.Equal(t, http.StatusServiceUnavailable, g.Status)
			require.Positive(t, g.RetryAfter())
			for _, call := range [][2]string{{"GET", path}, {"DELETE", path}} {
				require.NotEqual(t, http.StatusInternalServerError, s.Do("ann", call[0], call[1], "").Status, call)
			}
			audit := s.Admin(http.MethodGet, "/admin/v1/audit", "")
			require.Equal(t, http.StatusServiceUnavailable, audit.Status, audit.Raw)
			require.Equal(t, string(api.CodeUnavailable), audit.Text("code"))
			require.Positive(t, audit.RetryAfter())
			for _, route := range []string{"/queue", "/sales/phone/queue", "/sales/phone/leases", "/sales/phone/dead",
				"/instances"} {
				g := s.Admin(http.MethodGet, "/admin/v1"+route, "")
				require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, g.Status,
					"%s: %s", route, g.Raw)
			}
			rebuild := s.Admin(http.MethodPost, "/admin/v1/sales/phone/rebuild", "")
			require.NotEqual(t, http.StatusInternalServerError, rebuild.Status, rebuild.Raw)

			require.NoError(t, admin.Do(context.WithoutCancel(t.Context()), tt.end...).Err())
			require.Eventually(t, func() bool {
				return s.Order("cleo", "phone", `{}`).Status == http.StatusAccepted
			}, stack.Patience, 50*time.Millisecond)
		})
	}
}
