package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Every route of the admin API, and the least role it needs. A new route needs
// a line here, and one in roleFor unless the rule for the rest is right for it.
func roleTable() map[string]Role {
	return map[string]Role{
		"GET /admin/v1/sales":                         RoleViewer,
		"POST /admin/v1/sales":                        RoleAdmin,
		"GET /admin/v1/sales/:sale":                   RoleViewer,
		"PATCH /admin/v1/sales/:sale":                 RoleOperator,
		"POST /admin/v1/sales/:sale/open":             RoleOperator,
		"POST /admin/v1/sales/:sale/pause":            RoleOperator,
		"POST /admin/v1/sales/:sale/close":            RoleAdmin,
		"POST /admin/v1/sales/:sale/stock":            RoleAdmin,
		"POST /admin/v1/sales/:sale/rebuild":          RoleOperator,
		"GET /admin/v1/sales/:sale/orders":            RoleViewer,
		"GET /admin/v1/sales/:sale/dead":              RoleViewer,
		"GET /admin/v1/sales/:sale/dead/:id":          RoleViewer,
		"POST /admin/v1/sales/:sale/dead/requeue":     RoleOperator,
		"POST /admin/v1/sales/:sale/dead/drop":        RoleAdmin,
		"POST /admin/v1/sales/:sale/dead/:id/requeue": RoleOperator,
		"POST /admin/v1/sales/:sale/dead/:id/drop":    RoleAdmin,
		"GET /admin/v1/orders/:id":                    RoleViewer,
		"GET /admin/v1/queue":                         RoleViewer,
		"GET /admin/v1/sales/:sale/queue":             RoleViewer,
		"GET /admin/v1/sales/:sale/leases":            RoleViewer,
		"GET /admin/v1/log":                           RoleViewer,
		"GET /admin/v1/audit":                         RoleViewer,
		"GET /admin/v1/config":                        RoleViewer,
		"PATCH /admin/v1/config":                      RoleAdmin,
		"POST /admin/v1/config/revert":                RoleAdmin,
		"GET /admin/v1/config/versions":               RoleViewer,
		"POST /admin/v1/reload":                       RoleOperator,
		"GET /admin/v1/log-level":                     RoleViewer,
		"PUT /admin/v1/log-level":                     RoleOperator,
		"GET /admin/v1/limits":                        RoleViewer,
		"PATCH /admin/v1/limits":                      RoleOperator,
		"POST /admin/v1/limits/revert":                RoleOperator,
		"GET /admin/v1/switches":                      RoleViewer,
		"PUT /admin/v1/switches/admission":            RoleOperator,
		"PUT /admin/v1/switches/drain":                RoleOperator,
		"GET /admin/v1/instances":                     RoleViewer,
		"GET /admin/v1/orders/:id/timeline":           RoleViewer,
		"GET /admin/v1/timelines":                     RoleViewer,
		"GET /admin/v1/events":                        RoleViewer,
		"GET /admin/v1/notifications":                 RoleViewer,
		"GET /admin/v1/payments":                      RoleViewer,
		"POST /admin/v1/notifications/retry":          RoleOperator,
		"GET /admin/v1/topics":                        RoleViewer,
		"POST /admin/v1/topics":                       RoleAdmin,
		"GET /admin/v1/topics/:topic":                 RoleViewer,
		"PATCH /admin/v1/topics/:topic":               RoleAdmin,
		"DELETE /admin/v1/topics/:topic":              RoleAdmin,
		"POST /admin/v1/topics/:topic/on":             RoleOperator,
		"POST /admin/v1/topics/:topic/off":            RoleOperator,
		"POST /admin/v1/topics/:topic/messages":       RoleOperator,
		"GET /admin/v1/topics/:topic/messages/:id":    RoleViewer,
		"DELETE /admin/v1/topics/:topic/messages/:id": RoleOperator,
		"GET /admin/v1/topics/:topic/dead":            RoleViewer,
		"POST /admin/v1/topics/:topic/dead/:id/retry": RoleOperator,
		"POST /admin/v1/topics/:topic/dead/:id/drop":  RoleAdmin,
	}
}

// Each role is let through or stopped at each route, over HTTP.
func TestRolesAtEveryRoute(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	table := roleTable()
	walked := 0
	for _, route := range s.opsEngine.Routes() {
		if !strings.HasPrefix(route.Path, "/admin/") {
			continue
		}
		walked++
		need, ok := table[route.Method+" "+route.Path]
		require.True(t, ok, "%s %s needs a line in the table", route.Method, route.Path)
		path := strings.NewReplacer(":sale", "nothing", ":topic", "nothing", ":id", "nothing").Replace(route.Path)
		for _, role := range []Role{RoleViewer, RoleOperator, RoleAdmin} {
			token, err := MintFor(secretConfig(), "ann", role, time.Hour, time.Now())
			require.NoError(t, err)
			if role.covers(need) {
				s.letThrough(token, route.Method, path)
				continue
			}
			s.refused(CodeForbidden, s.opsAs(token, route.Method, path, ""))
		}
		s.refused(CodeUnauthorized, s.opsAs(s.token("ann", false), route.Method, path, ""))
	}
	require.Len(t, table, walked, "the table names routes that are gone")
}

// letThrough sends a request that its role allows. A change is asked for with a reason longer than the log can keep, so that it
// is refused for that, or for what it lacks, and never for who asks; nothing is changed.
func (s *stack) letThrough(token, method, path string) {
	s.t.Helper()
	if path == "/admin/v1/events" {
		return // it answers until its client leaves; see the tests of events
	}
	body := ""
	if method != http.MethodGet {
		body = `{"reason":"` + strings.Repeat("x", maxReason+1) + `"}`
	}
	got := s.opsAs(token, method, path, body)
	require.NotContains(s.t, []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed}, got.status, "%s %s: %s", method, path, got.body)
	if method != http.MethodGet {
		require.GreaterOrEqual(s.t, got.status, 400, "%s %s: %s", method, path, got.body)
	}
}

func TestRolesOfTokens(t *testing.T) {
	t.Parallel()
	_, err := MintFor(secretConfig(), "ann", "root", time.Hour, testNow)
	require.ErrorContains(t, err, "role must be viewer, operator or admin")
	s := newStack(t, func(c *setup) { c.still = true })
	s.sell("phone", 5)
	viewer, err := MintFor(secretConfig(), "ann", RoleViewer, time.Hour, time.Now())
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, s.opsAs(viewer, http.MethodGet, "/admin/v1/sales/phone", "").status)
	s.refused(CodeForbidden, s.opsAs(viewer, http.MethodPost, "/admin/v1/sales/phone/pause", "{}"))
	operator, err := MintFor(secretConfig(), "bob", RoleOperator, time.Hour, time.Now())
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, s.opsAs(operator, http.MethodPost, "/admin/v1/sales/phone/pause", "{}").status)
	s.refused(CodeForbidden, s.opsAs(operator, http.MethodPost, "/admin/v1/sales/phone/close", "{}"))
}
