package gateway

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAdminSeesTimelines(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for _, sale := range []string{"phone", "night", "day"} {
		s.sell(sale, 10)
	}
	g := s.order("ann", "phone", "")
	id := g.text("order_id")
	s.work()
	require.Eventually(t, func() bool { return !s.view("phone").InFlight() }, patience, 10*time.Millisecond)

	steps := s.admin(http.MethodGet, "/admin/v1/orders/"+id+"/timeline", "").body["steps"].([]any)
	var names []any
	for _, one := range steps {
		names = append(names, one.(map[string]any)["step"])
	}
	require.Equal(t, []any{"admitted", "claimed", "confirmed", "notify stream order.confirmed"}, names)

	timelines := s.admin(http.MethodGet, "/admin/v1/timelines?user=ann&limit=3", "").body["timelines"].([]any)
	require.Len(t, timelines, 1)
	require.Equal(t, id, timelines[0].(map[string]any)["order"].(map[string]any)["order_id"])
	require.Empty(t, s.admin(http.MethodGet, "/admin/v1/timelines?user=bob", "").body["timelines"])

	s.place("ann", "night")
	s.place("ann", "day")
	query, seen := "", map[string]bool{}
	for range 3 {
		g := s.admin(http.MethodGet, "/admin/v1/timelines?user=ann&limit=1"+query, "")
		one := g.body["timelines"].([]any)
		require.Len(t, one, 1)
		seen[one[0].(map[string]any)["order"].(map[string]any)["sale_id"].(string)] = true
		query = "&cursor=" + g.text("next_cursor")
	}
	require.Len(t, seen, 3, "page by page all of them")
	require.Equal(t, "&cursor=", query, "the last page says that it is")

	require.Equal(t, http.StatusNotFound, s.admin(http.MethodGet, "/admin/v1/orders/none/timeline", "").status)
	for _, query := range []string{"", "?user=", "?user=ann&limit=0", "?user=ann&limit=21", "?user=ann&limit=x",
		"?user=ann&cursor=x"} {
		require.Equal(t, http.StatusBadRequest, s.admin(http.MethodGet, "/admin/v1/timelines"+query, "").status, query)
	}
}
