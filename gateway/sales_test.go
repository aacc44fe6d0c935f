package gateway_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit/stack"
	"sluice/inventory"
)

func TestSalesShowEverythingAndCostTheStoresNothing(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	require.Equal(t, []any{}, s.Get("", "/v1/sales").Body["sales"])
	s.Sell("phone", 10, stack.LimitOf(3))
	s.Sell("later", 5, stack.Window(time.Minute, time.Hour))
	s.Sell("draft", 5, func(n *inventory.NewSale) { n.Open = false })
	s.Sell("over", 5, stack.Window(-time.Hour, -time.Minute))
	s.Sell("paused", 5)
	s.SetState("paused", inventory.Paused)
	s.Sell("closed", 5)
	s.SetState("closed", inventory.Closed)
	require.Eventually(t, func() bool {
		return len(s.Get("", "/v1/sales").Body["sales"].([]any)) == 6
	}, stack.Patience, 10*time.Millisecond)

	// With both stores gone for good every number is still there.
	require.NoError(t, s.DB.Close())
	before := s.Rounds()
	for range 20 {
		g := s.Get("", "/v1/sales")
		require.Equal(t, "public, max-age=1", g.Header.Get("Cache-Control"))
		states := map[string]string{}
		for _, one := range g.Body["sales"].([]any) {
			sale := one.(map[string]any)
			states[sale["id"].(string)] = sale["state"].(string)
			require.Equal(t, s.Get("", "/v1/sales/"+sale["id"].(string)).Text("state"), sale["state"])
		}
		require.Equal(t, map[string]string{"phone": "open", "later": "scheduled", "draft": "scheduled", "over": "ended",
			"paused": "paused",
			"closed": "closed"}, states)
	}
	require.Equal(t, before, s.Rounds(), "Redis was asked")

	g := s.Get("", "/v1/sales/phone")
	require.Equal(t, "public, max-age=1", g.Header.Get("Cache-Control"))
	entry, _ := s.SaleCache.Get("phone")
	now, err := time.Parse(api.TimeFormat, g.Text("server_time"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), now, 5*time.Second)
	delete(g.Body, "server_time")
	require.Equal(t, map[string]any{"id": "phone", "title": "Phone X", "sku": "PHONE-X", "price_cents": 9900.0,
		"currency": "CNY", "stock_total": 10.0,
		"remaining": 10.0, "per_user_limit": 3.0, "starts_at": api.FormatTime(entry.Sale.Starts()),
		"ends_at": api.FormatTime(entry.Sale.Ends()), "state": "open"}, g.Body)
	for _, id := range []string{"nothing", "a%0A", "a%7B"} {
		s.Refused(api.CodeNotFound, s.Get("", "/v1/sales/"+id))
	}
}

func TestRemainingFollowsTheLine(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 2)
	s.Place("ann", "phone")
	remaining := func(n int64) func() bool {
		return func() bool { return s.Get("", "/v1/sales/phone").Num("remaining") == n }
	}
	require.Eventually(t, remaining(1), stack.Patience, 10*time.Millisecond)
	path := s.Place("bob", "phone")
	require.Eventually(t, remaining(0), stack.Patience, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, s.Do("bob", http.MethodDelete, path, "").Status)
	require.Eventually(t, remaining(1), stack.Patience, 10*time.Millisecond)
}
