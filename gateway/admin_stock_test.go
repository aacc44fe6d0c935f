package gateway

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit"
)

// stock asks for a change of the phone's stock under a key.
func (s *stack) stock(key, body string) got {
	s.t.Helper()
	g, err := fetch(s.t.Context(), s.ops, http.MethodPost, "http://"+s.opsAddr+"/admin/v1/sales/phone/stock",
		s.token("root", true), body, "Idempotency-Key", key)
	require.NoError(s.t, err)
	return g
}

// The ledger has the change and the line cannot be reached: the answer says so, and a repetition changes nothing.
func TestAStockChangeThatTheLineDoesNotHaveYet(t *testing.T) {
	t.Parallel()
	server := testkit.Embedded(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newStack(t, func(c *setup) { c.redis, c.direct = proxy.Addr(), server.Addr() })
	s.sell("phone", 3)
	proxy.Cut()
	const more = `{"delta":5,"reason":"second pallet"}`
	for i, replayed := range []string{"", "true"} {
		g := s.stock("pallet-2", more)
		require.Equal(t, http.StatusOK, g.status, g.raw)
		require.Equal(t, false, g.body["in_line"], g.raw)
		require.EqualValues(t, 8, g.num("stock_total"), "asked %d times", i+1)
		require.Equal(t, replayed, g.header.Get("Idempotency-Replayed"))
	}
	for path, body := range map[string]string{"/open": `{}`, "/pause": `{"reason":"a look"}`} {
		g := s.admin(http.MethodPost, "/admin/v1/sales/phone"+path, body)
		require.Equal(t, http.StatusOK, g.status, "so is every other change: %s", g.raw)
		require.Equal(t, false, g.body["in_line"])
	}
	s.refused(api.CodeIdempotencyMismatch, s.stock("pallet-2", `{"delta":6,"reason":"second pallet"}`))
	s.refused(api.CodeInvalidRequest, s.stock("a b", more))

	require.NoError(t, proxy.Heal())
	line := s.lines.Of("phone") // its pool may believe for a moment that nobody answers
	require.Eventually(t, func() bool {
		v, err := line.View(t.Context())
		return err == nil && v.Stock == 8
	}, patience, 10*time.Millisecond, "the line follows")
	g := s.stock("pallet-3", more)
	require.Equal(t, true, g.body["in_line"])
	require.EqualValues(t, 13, g.num("stock_total"))
	s.clean()
}

// Sales and lines come in pages that have all of them once.
func TestSalesAndLinesComeInPages(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for i := range 5 {
		s.sell(fmt.Sprintf("s%d", i), 3)
	}
	for path, name := range map[string]string{"/sales": "id", "/queue": "sale"} {
		member := map[string]string{"/sales": "sales", "/queue": "lines"}[path]
		query, sizes, seen := "?limit=2", []int{}, map[any]bool{}
		for query != "" {
			g := s.admin(http.MethodGet, "/admin/v1"+path+query, "")
			require.Equal(t, http.StatusOK, g.status, g.raw)
			page := g.body[member].([]any)
			sizes = append(sizes, len(page))
			for _, one := range page {
				seen[one.(map[string]any)[name]] = true
			}
			if query = ""; g.text("next_cursor") != "" {
				query = "?limit=2&cursor=" + g.text("next_cursor")
			}
		}
		require.Equal(t, []int{2, 2, 1}, sizes, path)
		require.Len(t, seen, 5, path)
		for _, bad := range []string{"?limit=0", "?limit=101", "?cursor=", "?cursor=-x"} {
			s.refused(api.CodeInvalidRequest, s.admin(http.MethodGet, "/admin/v1"+path+bad, ""))
		}
	}
	line := s.lines.Of("s0")
	for i, user := range []string{"ann", "bob", "cem"} {
		s.place(user, "s0")
		_, err := line.Claim(t.Context(), fmt.Sprintf("batch-%d", i), 1, time.Minute)
		require.NoError(t, err)
	}
	g := s.admin(http.MethodGet, "/admin/v1/sales/s0/leases?limit=2", "")
	require.Len(t, g.body["leases"], 2)
	require.EqualValues(t, 2, g.num("next"))
	g = s.admin(http.MethodGet, "/admin/v1/sales/s0/leases?limit=2&skip=2", "")
	require.Len(t, g.body["leases"], 1)
	require.Zero(t, g.num("next"))
	s.refused(api.CodeInvalidRequest, s.admin(http.MethodGet, "/admin/v1/sales/s0/leases?skip=-1", ""))
}

// A refusal names what is missing, and nothing that is there.
func TestWhatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 3)
	order := newUUID()
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
		g := s.refused(api.CodeNotFound, s.admin(one.method, "/admin/v1"+one.path, ""))
		require.Contains(t, g.text("detail"), one.want, one.path)
		require.NotContains(t, g.text("detail"), "Receipt", one.path)
		if one.want == "no such order" || one.want == "no such dead letter" {
			require.NotContains(t, g.text("detail"), "sale", one.path)
			require.Contains(t, g.text("detail"), order, one.path)
		}
	}
}
