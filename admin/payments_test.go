package admin_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/stack"
)

// Whom to send money back to is one question, whatever the reason.
func TestOperatorsListPayments(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Unpaid)
	s.Sell("phone", 10)
	s.Work()
	path := s.Place("ann", "phone")
	s.Until("ann", path, "confirmed")
	for _, body := range []string{
		`{"payment_id":"a less","amount_cents":1,"currency":"CNY","paid_at":"2026-01-02T03:04:05Z"}`,
		`{"payment_id":"b","amount_cents":9900,"currency":"CNY"}`,
		`{"payment_id":"c","amount_cents":9900,"currency":"CNY"}`} {
		require.Equal(t, http.StatusOK, s.Provider(path, body).Status)
	}
	ids := func(query string) (found []string, next string) {
		g := s.Admin(http.MethodGet, "/admin/v1/payments?"+query, "")
		require.Equal(t, http.StatusOK, g.Status, g.Raw)
		for _, p := range g.Body["payments"].([]any) {
			found = append(found, p.(map[string]any)["payment_id"].(string))
		}
		return found, g.Text("next_cursor")
	}
	all, next := ids("sale=phone")
	require.ElementsMatch(t, []string{"c", "b", "a less"}, all)
	require.Empty(t, next)
	var paged []string
	for query := "limit=1"; query != ""; {
		one, next := ids(query)
		paged = append(paged, one...)
		if query = ""; next != "" {
			query = "limit=1&cursor=" + url.QueryEscape(next)
		}
	}
	require.Equal(t, all, paged)
	for query, want := range map[string][]string{"outcome=mismatch": {"a less"},
		"outcome=refund_required&sale=phone": {"c"}, "outcome=accepted&sale=other": nil} {
		found, _ := ids(query)
		require.Equal(t, want, found, query)
	}
	for _, query := range []string{"outcome=lost", "sale=%20", "cursor=7", "limit=0"} {
		require.Equal(t, http.StatusBadRequest, s.Admin(http.MethodGet, "/admin/v1/payments?"+query, "").Status, query)
	}
}
