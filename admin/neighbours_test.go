package admin_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
)

// Each test here puts a broken line beside a healthy one and looks at the healthy one.

// breakLine gives a key of a sale's line a type that nothing expects.
func (s *world) breakLine(sale, name string) {
	s.T.Helper()
	key := "sluice:{" + sale + "/0}:" + name
	require.NoError(s.T, s.Redis.Del(s.T.Context(), key).Err())
	require.NoError(s.T, s.Redis.Set(s.T.Context(), key, "of a wrong type", 0).Err())
}

func TestListsShowTheOtherLines(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			s := newWorld(t, func(c *stack.Setup) { c.Redis, c.Still = kind.Addr, true })
			for _, sale := range []string{"a-broken", "phone", "z-broken"} {
				s.Sell(sale, 10)
			}
			path := s.Place("ann", "phone")
			for _, sale := range []string{"a-broken", "z-broken"} {
				s.breakLine(sale, "wait")
				s.breakLine(sale, "holders")
			}
			own := s.Get("ann", "/v1/orders")
			require.Equal(t, http.StatusOK, own.Status, own.Raw)
			require.Len(t, own.Body["orders"], 1)
			require.Equal(t, []any{"a-broken", "z-broken"}, own.Body["unread_sales"])
			require.Equal(t, http.StatusOK, s.Get("ann", path).Status)

			lines := s.Admin(http.MethodGet, "/admin/v1/queue", "")
			require.Equal(t, http.StatusOK, lines.Status, lines.Raw)
			list := lines.Body["lines"].([]any)
			require.Len(t, list, 3)
			phone := list[1].(map[string]any)
			require.Equal(t, []any{"phone", 1.0, nil}, []any{phone["sale"], phone["depth"], phone["unread"]})
			for _, at := range []int{0, 2} {
				require.Contains(t, list[at].(map[string]any)["unread"], "WRONGTYPE")
			}
			require.Equal(t, http.StatusOK, s.Admin(http.MethodGet, "/admin/v1/sales/phone/queue", "").Status)
			require.NotEqual(t, http.StatusOK, s.Admin(http.MethodGet, "/admin/v1/sales/a-broken/queue", "").Status)

			sales := s.Admin(http.MethodGet, "/admin/v1/sales", "")
			require.Equal(t, http.StatusOK, sales.Status, sales.Raw)
			for _, one := range sales.Body["sales"].([]any) {
				sale := one.(map[string]any)
				line := sale["line"].(map[string]any)
				require.Equal(t, sale["id"] == "phone", line["unread"] == nil, sale["id"])
				if sale["id"] == "phone" {
					require.EqualValues(t, 9, sale["remaining"])
				}
			}
			told := s.Admin(http.MethodGet, "/admin/v1/timelines?user=ann", "")
			require.Equal(t, http.StatusOK, told.Status, told.Raw)
			require.Len(t, told.Body["timelines"], 1)
			require.Len(t, told.Body["unread_sales"], 2)
		})
	}
}

// How many orders others refuse is one key of its own: without it the lines are shown all the same.
func TestLinesAreShownWithoutTheHeartbeats(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 10)
	require.NoError(t, s.Redis.Set(t.Context(), "sluice:{instances}", "no hash", 0).Err())
	line := s.Admin(http.MethodGet, "/admin/v1/sales/phone/queue", "")
	require.Equal(t, http.StatusOK, line.Status, line.Raw)
	require.NotContains(t, line.Body["rates"], "refused_per_second")
}
