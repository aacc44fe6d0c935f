package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit/stack"
)

func TestOwnOrdersArePagedNewestFirst(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	require.Empty(t, s.Get("ann", "/v1/orders").Body["orders"])
	s.Sell("phone", 50, stack.LimitOf(7))
	s.Sell("watch", 50, stack.LimitOf(7))
	var placed []string
	place := func(sale string) {
		path := s.Place("ann", sale)
		placed = append([]string{path[strings.LastIndex(path, "/")+1:]}, placed...)
		at := time.Now().Add(2 * time.Millisecond) // newest first is by the millisecond
		require.Eventually(t, func() bool { return time.Now().After(at) }, stack.Patience, time.Millisecond)
	}
	for range 3 {
		place("phone")
	}
	s.Place("bob", "phone")
	stop := s.Work()
	for _, id := range placed {
		s.Until("ann", "/v1/sales/phone/orders/"+id, "confirmed")
	}
	stop() // those of the other sale stay in line
	for range 4 {
		place("watch")
	}
	var seen []string
	query := "?limit=3"
	for pages := 0; ; pages++ {
		require.Less(t, pages, 3)
		g := s.Get("ann", "/v1/orders"+query)
		require.Equal(t, http.StatusOK, g.Status, g.Raw)
		require.Equal(t, "no-store", g.Header.Get("Cache-Control"))
		for _, one := range g.Body["orders"].([]any) {
			o := one.(map[string]any)
			seen = append(seen, o["order_id"].(string))
			require.EqualValues(t, 9900, o["price_cents"])
			require.Equal(t, "CNY", o["currency"])
		}
		next := g.Text("next_cursor")
		if next == "" {
			break
		}
		query = "?limit=3&cursor=" + next
	}
	require.Equal(t, placed, seen)
	for _, query := range []string{"limit=0", "limit=101", "limit=x", "limit=-1", "limit=", "cursor=", "cursor=x",
		"cursor=1_", "cursor=-1_a", "cursor=1_" + strings.Repeat("a", 37)} {
		g := s.Refused(api.CodeInvalidRequest, s.Get("ann", "/v1/orders?"+query))
		field, _, _ := strings.Cut(query, "=")
		require.Contains(t, g.Raw, `"field":"`+field+`"`)
	}
}

func TestCancelGivesTheUnitBack(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 1)
	path := s.Place("ann", "phone")
	s.Refused(api.CodeNotFound, s.Do("bob", http.MethodDelete, path, ""))
	s.Refused(api.CodeUnauthorized, s.Do("", http.MethodDelete, path, ""))
	s.Refused(api.CodeSoldOut, s.Order("bob", "phone", ""))
	for range 2 { // cancelling twice is no error
		g := s.Do("ann", http.MethodDelete, path, "")
		require.Equal(t, http.StatusOK, g.Status, g.Raw)
		require.Equal(t, "cancelled", g.Text("status"))
		require.NotEmpty(t, g.Text("ended_at"))
	}
	s.Clean()
	var g stack.Answer // bob was told that nothing is left, and for a moment that stays so
	require.Eventually(t, func() bool {
		g = s.Order("bob", "phone", "")
		return g.Status == http.StatusAccepted
	}, stack.Patience, time.Millisecond)
	bobs := g.Header.Get("Location")
	s.Work()
	s.Until("bob", bobs, "confirmed")
	g = s.Do("bob", http.MethodDelete, bobs, "")
	require.Equal(t, "cancelled", g.Text("status"), g.Raw)
	require.Equal(t, "cancelled", s.Get("ann", path).Text("status"))
	again := s.Place("bob", "phone")
	require.NotEqual(t, bobs, again)
	for _, id := range []string{"no-such-order", strings.Repeat("a", 65), "a%0Ab", "%ff"} {
		s.Refused(api.CodeNotFound, s.Do("ann", http.MethodDelete, "/v1/sales/phone/orders/"+id, ""))
		s.Refused(api.CodeNotFound, s.Get("ann", "/v1/sales/phone/orders/"+id))
	}
	s.Until("bob", again, "confirmed")
	s.Clean()
}

func TestFailedOrderSaysWhyAndCannotBeCancelled(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 2)
	first, second := s.Place("ann", "phone"), s.Place("bob", "phone")
	g := s.Admin(http.MethodPost, "/admin/v1/sales/phone/stock", `{"delta":-1,"reason":"damaged"}`)
	require.Equal(t, http.StatusOK, g.Status, g.Raw)
	s.Work()
	s.Until("ann", first, "confirmed")
	failed := s.Until("bob", second, "failed")
	require.Equal(t, "sold_out", failed.Text("reason"))
	require.NotEmpty(t, failed.Text("ended_at"))
	require.Nil(t, failed.Body["position"])
	s.Refused(api.CodeNotCancellable, s.Do("bob", http.MethodDelete, second, ""))
	s.Clean()
}
