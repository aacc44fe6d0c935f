package admin_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
)

// stock asks for a change of the phone's stock under a key.
func (s *world) stock(key, body string) stack.Answer {
	s.T.Helper()
	return s.Admin(http.MethodPost, "/admin/v1/sales/phone/stock", body, "Idempotency-Key", key)
}

// The ledger has the change and the line cannot be reached: the answer says so, and a repetition changes nothing.
func TestAStockChangeThatTheLineDoesNotHaveYet(t *testing.T) {
	t.Parallel()
	server := testkit.Embedded(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newWorld(t, func(c *stack.Setup) { c.Redis, c.Direct = proxy.Addr(), server.Addr() })
	s.Sell("phone", 3)
	proxy.Cut()
	const more = `{"delta":5,"reason":"second pallet"}`
	for i, replayed := range []string{"", "true"} {
		g := s.stock("pallet-2", more)
		require.Equal(t, http.StatusOK, g.Status, g.Raw)
		require.Equal(t, false, g.Body["in_line"], g.Raw)
		require.EqualValues(t, 8, g.Num("stock_total"), "asked %d times", i+1)
		require.Equal(t, replayed, g.Header.Get("Idempotency-Replayed"))
	}
	for path, body := range map[string]string{"/open": `{}`, "/pause": `{"reason":"a look"}`} {
		g := s.Admin(http.MethodPost, "/admin/v1/sales/phone"+path, body)
		require.Equal(t, http.StatusOK, g.Status, "so is every other change: %s", g.Raw)
		require.Equal(t, false, g.Body["in_line"])
	}
	s.Refused(api.CodeIdempotencyMismatch, s.stock("pallet-2", `{"delta":6,"reason":"second pallet"}`))
	s.Refused(api.CodeInvalidRequest, s.stock("a b", more))

	require.NoError(t, proxy.Heal())
	line := s.Lines.Of("phone") // its pool may believe for a moment that nobody answers
	require.Eventually(t, func() bool {
		v, err := line.View(t.Context())
		return err == nil && v.Stock == 8
	}, stack.Patience, 10*time.Millisecond, "the line follows")
	g := s.stock("pallet-3", more)
	require.Equal(t, true, g.Body["in_line"])
	require.EqualValues(t, 13, g.Num("stock_total"))
	s.Clean()
}

// Sales and lines come in pages that have all of them once.
func TestSalesAndLinesComeInPages(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	for i := range 5 {
		s.Sell(fmt.Sprintf("s%d", i), 3)
	}
	for path, name := range map[string]string{"/sales": "id", "/queue": "sale"} {
		member := map[string]string{"/sales": "sales", "/queue": "lines"}[path]
		query, sizes, seen := "?limit=2", []int{}, map[any]bool{}
		for query != "" {
			g := s.Admin(http.MethodGet, "/admin/v1"+path+query, "")
			require.Equal(t, http.StatusOK, g.Status, g.Raw)
			page := g.Body[member].([]any)
			sizes = append(sizes, len(page))
			for _, one := range page {
				seen[one.(map[string]any)[name]] = true
			}
			if query = ""; g.Text("next_cursor") != "" {
				query = "?limit=2&cursor=" + g.Text("next_cursor")
			}
		}
		require.Equal(t, []int{2, 2, 1}, sizes, path)
		require.Len(t, seen, 5, path)
		for _, bad := range []string{"?limit=0", "?limit=101", "?cursor=", "?cursor=-x"} {
			s.Refused(api.CodeInvalidRequest, s.Admin(http.MethodGet, "/admin/v1"+path+bad, ""))
		}
	}
	line := s.Lines.Of("s0")
	for i, user := range []string{"ann", "bob", "cem"} {
		s.Place(user, "s0")
		_, err := line.Claim(t.Context(), fmt.Sprintf("batch-%d", i), 1, time.Minute)
		require.NoError(t, err)
	}
	g := s.Admin(http.MethodGet, "/admin/v1/sales/s0/leases?limit=2", "")
	require.Len(t, g.Body["leases"], 2)
	require.EqualValues(t, 2, g.Num("next"))
	g = s.Admin(http.MethodGet, "/admin/v1/sales/s0/leases?limit=2&skip=2", "")
	require.Len(t, g.Body["leases"], 1)
	require.Zero(t, g.Num("next"))
	s.Refused(api.CodeInvalidRequest, s.Admin(http.MethodGet, "/admin/v1/sales/s0/leases?skip=-1", ""))
}

// A refusal names what is missing, and nothing that is there.
func TestWhatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 3)
	order := stack.NewUUID()
	for _, one := range []struct{ method, path, want string }{
		{"GET", "/sales/nosuch", "nosuch: no such sale"},
		{"POST", "/sales/nosuch/open", "nosuch: no such sale"},
		{"PATCH", "/sales/nosuch", "nosuch: no such sale"},
		{"POST", "/sales/nosuch/rebuild", "nosuch: no such sale"},
		{"GET", "/sales/nosuch/orders", "nosuch: no such sale"},
		{"GET", "/sales/nosuch/queue", "nosuch: no such sale"},
		{"GET", "/sales/nosuch/leases", "nosuch: no such sale"},
		{"GET", "/sales/nosuch/dead", "nosuch: no such sale"},
		{"GET", "/sales/nosuch/dead/" + order, "nosuch: no such sale"},
		{"POST", "/sales/nosuch/dead/" + order + "/requeue", "nosuch: no such sale"},
		{"POST", "/sales/nosuch/dead/" + order + "/drop", "nosuch: no such sale"},
		{"GET", "/sales/phone/dead/" + order, "no such dead letter"},
		{"POST", "/sales/phone/dead/" + order + "/requeue", "no such dead letter"},
		{"POST", "/sales/phone/dead/" + order + "/drop", "no such dead letter"},
		{"GET", "/orders/" + order, "no such order"},
		{"GET", "/orders/" + order + "/timeline", "no such order"},
		{"GET", "/audit?sale=nosuch", "nosuch: no such sale"},
	} {
		g := s.Refused(api.CodeNotFound, s.Admin(one.method, "/admin/v1"+one.path, ""))
		require.Contains(t, g.Text("detail"), one.want, one.path)
		require.NotContains(t, g.Text("detail"), "Receipt", one.path)
		if one.want == "no such order" || one.want == "no such dead letter" {
			require.NotContains(t, g.Text("detail"), "sale", one.path)
			require.Contains(t, g.Text("detail"), order, one.path)
		}
	}
}
