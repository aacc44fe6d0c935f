package admin_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway/auth"
	"sluice/internal/testkit/stack"
)

// Every route of the admin API, and the least role it needs. A new route needs
// a line here, and one in roleFor unless the rule for the rest is right for it.
func roleTable() map[string]auth.Role {
	return map[string]auth.Role{
		"GET /admin/v1/sales":                               auth.RoleViewer,
		"POST /admin/v1/sales":                              auth.RoleAdmin,
		"GET /admin/v1/sales/:sale":                         auth.RoleViewer,
		"PATCH /admin/v1/sales/:sale":                       auth.RoleOperator,
		"POST /admin/v1/sales/:sale/open":                   auth.RoleOperator,
		"POST /admin/v1/sales/:sale/pause":                  auth.RoleOperator,
		"POST /admin/v1/sales/:sale/close":                  auth.RoleAdmin,
		"POST /admin/v1/sales/:sale/stock":                  auth.RoleAdmin,
		"POST /admin/v1/sales/:sale/rebuild":                auth.RoleOperator,
		"GET /admin/v1/sales/:sale/orders":                  auth.RoleViewer,
		"GET /admin/v1/sales/:sale/dead":                    auth.RoleViewer,
		"GET /admin/v1/sales/:sale/dead/:id":                auth.RoleViewer,
		"POST /admin/v1/sales/:sale/dead/requeue":           auth.RoleOperator,
		"POST /admin/v1/sales/:sale/dead/drop":              auth.RoleAdmin,
		"POST /admin/v1/sales/:sale/dead/:id/requeue":       auth.RoleOperator,
		"POST /admin/v1/sales/:sale/dead/:id/drop":          auth.RoleAdmin,
		"GET /admin/v1/orders/:id":                          auth.RoleViewer,
		"GET /admin/v1/queue":                               auth.RoleViewer,
		"GET /admin/v1/sales/:sale/queue":                   auth.RoleViewer,
		"GET /admin/v1/sales/:sale/leases":                  auth.RoleViewer,
		"GET /admin/v1/log":                                 auth.RoleViewer,
		"GET /admin/v1/audit":                               auth.RoleViewer,
		"GET /admin/v1/config":                              auth.RoleViewer,
		"PATCH /admin/v1/config":                            auth.RoleAdmin,
		"POST /admin/v1/config/revert":                      auth.RoleAdmin,
		"GET /admin/v1/config/versions":                     auth.RoleViewer,
		"POST /admin/v1/reload":                             auth.RoleOperator,
		"GET /admin/v1/log-level":                           auth.RoleViewer,
		"PUT /admin/v1/log-level":                           auth.RoleOperator,
		"GET /admin/v1/limits":                              auth.RoleViewer,
		"PATCH /admin/v1/limits":                            auth.RoleOperator,
		"POST /admin/v1/limits/revert":                      auth.RoleOperator,
		"GET /admin/v1/switches":                            auth.RoleViewer,
		"PUT /admin/v1/switches/admission":                  auth.RoleOperator,
		"PUT /admin/v1/switches/drain":                      auth.RoleOperator,
		"GET /admin/v1/instances":                           auth.RoleViewer,
		"GET /admin/v1/workers":                             auth.RoleViewer,
		"GET /admin/v1/orders/:id/timeline":                 auth.RoleViewer,
		"GET /admin/v1/timelines":                           auth.RoleViewer,
		"GET /admin/v1/events":                              auth.RoleViewer,
		"GET /admin/v1/notifications":                       auth.RoleViewer,
		"GET /admin/v1/payments":                            auth.RoleViewer,
		"POST /admin/v1/notifications/retry":                auth.RoleOperator,
		"GET /admin/v1/topics":                              auth.RoleViewer,
		"POST /admin/v1/topics":                             auth.RoleAdmin,
		"GET /admin/v1/topics/:topic":                       auth.RoleViewer,
		"PATCH /admin/v1/topics/:topic":                     auth.RoleAdmin,
		"DELETE /admin/v1/topics/:topic":                    auth.RoleAdmin,
		"POST /admin/v1/topics/:topic/on":                   auth.RoleOperator,
		"POST /admin/v1/topics/:topic/off":                  auth.RoleOperator,
		"POST /admin/v1/topics/:topic/messages":             auth.RoleOperator,
		"GET /admin/v1/topics/:topic/messages/:id":          auth.RoleViewer,
		"DELETE /admin/v1/topics/:topic/messages/:id":       auth.RoleOperator,
		"GET /admin/v1/topics/:topic/dead":                  auth.RoleViewer,
		"POST /admin/v1/topics/:topic/dead/:id/retry":       auth.RoleOperator,
		"POST /admin/v1/topics/:topic/dead/:id/drop":        auth.RoleAdmin,
		"GET /admin/v1/topics/:topic/messages":              auth.RoleViewer,
		"GET /admin/v1/subscriptions":                       auth.RoleViewer,
		"POST /admin/v1/subscriptions":                      auth.RoleAdmin,
		"GET /admin/v1/subscriptions/:name":                 auth.RoleViewer,
		"PATCH /admin/v1/subscriptions/:name":               auth.RoleAdmin,
		"DELETE /admin/v1/subscriptions/:name":              auth.RoleAdmin,
		"POST /admin/v1/subscriptions/:name/on":             auth.RoleOperator,
		"POST /admin/v1/subscriptions/:name/off":            auth.RoleOperator,
		"GET /admin/v1/subscriptions/:name/messages":        auth.RoleViewer,
		"GET /admin/v1/subscriptions/:name/dead":            auth.RoleViewer,
		"POST /admin/v1/subscriptions/:name/dead/:id/retry": auth.RoleOperator,
		"POST /admin/v1/subscriptions/:name/dead/:id/drop":  auth.RoleAdmin,
	}
}

// Each role is let through or stopped at each route, over HTTP.
func TestRolesAtEveryRoute(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	table := roleTable()
	walked := 0
	for _, route := range s.OpsEngine.Routes() {
		if !strings.HasPrefix(route.Path, "/admin/") {
			continue
		}
		walked++
		need, ok := table[route.Method+" "+route.Path]
		require.True(t, ok, "%s %s needs a line in the table", route.Method, route.Path)
		path := strings.NewReplacer(":sale", "nothing", ":topic", "nothing", ":name", "nothing", ":id", "nothing").
			Replace(route.Path)
		for _, role := range []auth.Role{auth.RoleViewer, auth.RoleOperator, auth.RoleAdmin} {
			token, err := auth.MintFor(stack.Auth(), "ann", role, time.Hour, time.Now())
			require.NoError(t, err)
			if role.Covers(need) {
				s.letThrough(token, route.Method, path)
				continue
			}
			s.Refused(api.CodeForbidden, s.OpsAs(token, route.Method, path, ""))
		}
		s.Refused(api.CodeUnauthorized, s.OpsAs(s.Token("ann", false), route.Method, path, ""))
	}
	require.Len(t, table, walked, "the table names routes that are gone")
}

// letThrough sends a request that its role allows. A change is asked for with a reason longer than
// the log can keep, so that it is refused for that, or for what it lacks, and never for who asks;
// nothing is changed.
func (s *world) letThrough(token, method, path string) {
	s.T.Helper()
	if path == "/admin/v1/events" {
		return // it answers until its client leaves; see the tests of events
	}
	body := ""
	if method != http.MethodGet {
		body = `{"reason":"` + strings.Repeat("x", 200+1) + `"}`
	}
	got := s.OpsAs(token, method, path, body)
	require.NotContains(s.T, []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed},
		got.Status, "%s %s: %s", method, path, got.Body)
	if method != http.MethodGet {
		require.GreaterOrEqual(s.T, got.Status, 400, "%s %s: %s", method, path, got.Body)
	}
}

func TestRolesOfTokens(t *testing.T) {
	t.Parallel()
	_, err := auth.MintFor(stack.Auth(), "ann", "root", time.Hour, testNow)
	require.ErrorContains(t, err, "role must be viewer, operator or admin")
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 5)
	viewer, err := auth.MintFor(stack.Auth(), "ann", auth.RoleViewer, time.Hour, time.Now())
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, s.OpsAs(viewer, http.MethodGet, "/admin/v1/sales/phone", "").Status)
	s.Refused(api.CodeForbidden, s.OpsAs(viewer, http.MethodPost, "/admin/v1/sales/phone/pause", "{}"))
	operator, err := auth.MintFor(stack.Auth(), "bob", auth.RoleOperator, time.Hour, time.Now())
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, s.OpsAs(operator, http.MethodPost, "/admin/v1/sales/phone/pause", "{}").Status)
	s.Refused(api.CodeForbidden, s.OpsAs(operator, http.MethodPost, "/admin/v1/sales/phone/close", "{}"))
}
