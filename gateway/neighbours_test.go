package gateway

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// Each test here puts a broken line beside a healthy one and looks at the healthy one.

// breakLine gives a key of a sale's line a type that nothing expects.
func (s *stack) breakLine(sale, name string) {
	s.t.Helper()
	key := "sluice:{" + sale + "/0}:" + name
	require.NoError(s.t, s.rdb.Del(s.t.Context(), key).Err())
	require.NoError(s.t, s.rdb.Set(s.t.Context(), key, "of a wrong type", 0).Err())
}

func TestListsShowTheOtherLines(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			s := newStack(t, func(c *setup) { c.redis, c.still = kind.Addr, true })
			for _, sale := range []string{"a-broken", "phone", "z-broken"} {
				s.sell(sale, 10)
			}
			path := s.place("ann", "phone")
			for _, sale := range []string{"a-broken", "z-broken"} {
				s.breakLine(sale, "wait")
				s.breakLine(sale, "holders")
			}
			own := s.get("ann", "/v1/orders")
			require.Equal(t, http.StatusOK, own.status, own.raw)
			require.Len(t, own.body["orders"], 1)
			require.Equal(t, []any{"a-broken", "z-broken"}, own.body["unread_sales"])
			require.Equal(t, http.StatusOK, s.get("ann", path).status)

			lines := s.admin(http.MethodGet, "/admin/v1/queue", "")
			require.Equal(t, http.StatusOK, lines.status, lines.raw)
			list := lines.body["lines"].([]any)
			require.Len(t, list, 3)
			phone := list[1].(map[string]any)
			require.Equal(t, []any{"phone", 1.0, nil}, []any{phone["sale"], phone["depth"], phone["unread"]})
			for _, at := range []int{0, 2} {
				require.Contains(t, list[at].(map[string]any)["unread"], "WRONGTYPE")
			}
			require.Equal(t, http.StatusOK, s.admin(http.MethodGet, "/admin/v1/sales/phone/queue", "").status)
			require.NotEqual(t, http.StatusOK, s.admin(http.MethodGet, "/admin/v1/sales/a-broken/queue", "").status)

			sales := s.admin(http.MethodGet, "/admin/v1/sales", "")
			require.Equal(t, http.StatusOK, sales.status, sales.raw)
			for _, one := range sales.body["sales"].([]any) {
				sale := one.(map[string]any)
				line := sale["line"].(map[string]any)
				require.Equal(t, sale["id"] == "phone", line["unread"] == nil, sale["id"])
				if sale["id"] == "phone" {
					require.EqualValues(t, 9, sale["remaining"])
				}
			}
			told := s.admin(http.MethodGet, "/admin/v1/timelines?user=ann", "")
			require.Equal(t, http.StatusOK, told.status, told.raw)
			require.Len(t, told.body["timelines"], 1)
			require.Len(t, told.body["unread_sales"], 2)
		})
	}
}

// How many orders others refuse is one key of its own: without it the lines are shown all the same.
func TestLinesAreShownWithoutTheHeartbeats(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	s.sell("phone", 10)
	require.NoError(t, s.rdb.Set(t.Context(), "sluice:{instances}", "no hash", 0).Err())
	line := s.admin(http.MethodGet, "/admin/v1/sales/phone/queue", "")
	require.Equal(t, http.StatusOK, line.status, line.raw)
	require.NotContains(t, line.body["rates"], "refused_per_second")
}
