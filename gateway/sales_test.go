package gateway

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/inventory"
)

func TestSalesShowEverythingAndCostTheStoresNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	require.Equal(t, []any{}, s.get("", "/v1/sales").body["sales"])
	s.sell("phone", 10, limitOf(3))
	s.sell("later", 5, window(time.Minute, time.Hour))
	s.sell("draft", 5, func(n *inventory.NewSale) { n.Open = false })
	s.sell("over", 5, window(-time.Hour, -time.Minute))
	s.sell("paused", 5)
	s.setState("paused", inventory.Paused)
	s.sell("closed", 5)
	s.setState("closed", inventory.Closed)
	require.Eventually(t, func() bool {
		return len(s.get("", "/v1/sales").body["sales"].([]any)) == 6
	}, patience, 10*time.Millisecond)

	// With both stores gone for good every number is still there.
	require.NoError(t, s.db.Close())
	before := s.trips.Rounds.Load()
	for range 20 {
		g := s.get("", "/v1/sales")
		require.Equal(t, "public, max-age=1", g.header.Get("Cache-Control"))
		states := map[string]string{}
		for _, one := range g.body["sales"].([]any) {
			sale := one.(map[string]any)
			states[sale["id"].(string)] = sale["state"].(string)
			require.Equal(t, s.get("", "/v1/sales/"+sale["id"].(string)).text("state"), sale["state"])
		}
		require.Equal(t, map[string]string{"phone": "open", "later": "scheduled", "draft": "scheduled", "over": "ended",
			"paused": "paused",
			"closed": "closed"}, states)
	}
	require.Equal(t, before, s.trips.Rounds.Load(), "Redis was asked")

	g := s.get("", "/v1/sales/phone")
	require.Equal(t, "public, max-age=1", g.header.Get("Cache-Control"))
	entry, _ := s.saleCache.Get("phone")
	now, err := time.Parse(api.TimeFormat, g.text("server_time"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), now, 5*time.Second)
	delete(g.body, "server_time")
	require.Equal(t, map[string]any{"id": "phone", "title": "Phone X", "sku": "PHONE-X", "price_cents": 9900.0,
		"currency": "CNY", "stock_total": 10.0,
		"remaining": 10.0, "per_user_limit": 3.0, "starts_at": api.FormatTime(entry.Sale.Starts()),
		"ends_at": api.FormatTime(entry.Sale.Ends()), "state": "open"}, g.body)
	for _, id := range []string{"nothing", "a%0A", "a%7B"} {
		s.refused(api.CodeNotFound, s.get("", "/v1/sales/"+id))
	}
}

func TestRemainingFollowsTheLine(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 2)
	s.place("ann", "phone")
	remaining := func(n int64) func() bool {
		return func() bool { return s.get("", "/v1/sales/phone").num("remaining") == n }
	}
	require.Eventually(t, remaining(1), patience, 10*time.Millisecond)
	path := s.place("bob", "phone")
	require.Eventually(t, remaining(0), patience, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, s.do("bob", http.MethodDelete, path, "").status)
	require.Eventually(t, remaining(1), patience, 10*time.Millisecond)
}
