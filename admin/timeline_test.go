package admin_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/stack"
)

func TestAdminSeesTimelines(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	for _, sale := range []string{"phone", "night", "day"} {
		s.Sell(sale, 10)
	}
	g := s.Order("ann", "phone", "")
	id := g.Text("order_id")
	s.Work()
	require.Eventually(t, func() bool { return !s.View("phone").InFlight() }, stack.Patience, 10*time.Millisecond)

	steps := s.Admin(http.MethodGet, "/admin/v1/orders/"+id+"/timeline", "").Body["steps"].([]any)
	var names []any
	for _, one := range steps {
		names = append(names, one.(map[string]any)["step"])
	}
	require.Equal(t, []any{"admitted", "claimed", "confirmed", "notify stream order.confirmed"}, names)

	timelines := s.Admin(http.MethodGet, "/admin/v1/timelines?user=ann&limit=3", "").Body["timelines"].([]any)
	require.Len(t, timelines, 1)
	require.Equal(t, id, timelines[0].(map[string]any)["order"].(map[string]any)["order_id"])
	require.Empty(t, s.Admin(http.MethodGet, "/admin/v1/timelines?user=bob", "").Body["timelines"])

	s.Place("ann", "night")
	s.Place("ann", "day")
	query, seen := "", map[string]bool{}
	for range 3 {
		g := s.Admin(http.MethodGet, "/admin/v1/timelines?user=ann&limit=1"+query, "")
		one := g.Body["timelines"].([]any)
		require.Len(t, one, 1)
		seen[one[0].(map[string]any)["order"].(map[string]any)["sale_id"].(string)] = true
		query = "&cursor=" + g.Text("next_cursor")
	}
	require.Len(t, seen, 3, "page by page all of them")
	require.Equal(t, "&cursor=", query, "the last page says that it is")

	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodGet, "/admin/v1/orders/none/timeline", "").Status)
	for _, query := range []string{"", "?user=", "?user=ann&limit=0", "?user=ann&limit=21", "?user=ann&limit=x",
		"?user=ann&cursor=x"} {
		require.Equal(t, http.StatusBadRequest, s.Admin(http.MethodGet, "/admin/v1/timelines"+query, "").Status, query)
	}
}
