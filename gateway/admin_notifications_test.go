package gateway

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/api"
	"sluice/notify"
)

func (s *stack) outbox(state int, channel, event string, orders ...string) {
	s.t.Helper()
	rows := make([]notify.Row, len(orders))
	for i, id := range orders {
		rows[i] = notify.Row{OrderID: id, Event: event, Channel: channel, SaleID: "phone", UserID: "ann",
			State: state, Attempts: 11,
			LastError: "http status 410", CreatedAt: 1_700_000_000_000, NextAt: 1_700_000_000_000 + int64(i),
			DeliveredAt: 1_700_000_001_000}
	}
	require.NoError(s.t, s.db.Tx(s.t.Context(), func(tx *gorm.DB) error { return notify.Insert(tx, rows) }))
}

func TestAdminListsNotifications(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	s.outbox(notify.StateDead, "webhook", notify.EventPaid, "o1", "o2", "o3")
	s.outbox(notify.StatePending, "email", notify.EventPaid, "o1")
	s.outbox(notify.StateDelivered, "sms", notify.EventPaid, "o1")
	var seen []string
	query := "?limit=2"
	for range 2 {
		g := s.admin(http.MethodGet, "/admin/v1/notifications"+query, "")
		for _, one := range g.body["notifications"].([]any) {
			n := one.(map[string]any)
			require.Equal(t, "dead", n["state"])
			require.Equal(t, "http status 410", n["last_error"])
			require.Equal(t, "2023-11-14T22:13:20.000Z", n["created_at"])
			seen = append(seen, n["order_id"].(string))
		}
		query = "?limit=2&cursor=" + g.text("next_cursor")
	}
	require.Equal(t, []string{"o3", "o2", "o1"}, seen)
	pending := s.admin(http.MethodGet, "/admin/v1/notifications?state=pending&channel=email", "").
		body["notifications"].([]any)
	require.NotEmpty(t, pending[0].(map[string]any)["due_at"])
	delivered := s.admin(http.MethodGet, "/admin/v1/notifications?state=delivered", "").body["notifications"].([]any)
	require.Equal(t, "2023-11-14T22:13:21.000Z", delivered[0].(map[string]any)["delivered_at"])
	require.Empty(t, s.admin(http.MethodGet, "/admin/v1/notifications?channel=sms", "").body["notifications"])
	for _, bad := range []string{"state=late", "limit=0", "cursor=x", "channel=averylongchannelname"} {
		s.refused(api.CodeInvalidRequest, s.admin(http.MethodGet, "/admin/v1/notifications?"+bad, ""))
	}
}

func TestAdminRetriesNotifications(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	s.outbox(notify.StateDead, "webhook", notify.EventPaid, "o1", "o2", "o3")
	s.outbox(notify.StateDelivered, "webhook", notify.EventPaid, "o4")
	retry := func(body string) got { return s.admin(http.MethodPost, "/admin/v1/notifications/retry", body) }
	g := retry(`{"channel":"webhook","order_id":"o2","event":"order.paid","reason":"shop is back"}`)
	require.Equal(t, http.StatusOK, g.status, g.raw)
	require.EqualValues(t, 1, g.num("retried"))
	s.refused(api.CodeConflict, retry(`{"channel":"webhook","order_id":"o2","event":"order.paid","reason":"again"}`))
	s.refused(api.CodeConflict, retry(`{"channel":"webhook","order_id":"o4","event":"order.paid","reason":"again"}`))
	s.refused(api.CodeNotFound, retry(`{"channel":"email","order_id":"o2","event":"order.paid","reason":"again"}`))
	for _, bad := range []string{`{"channel":"webhook","all":true}`, `{"all":true,"reason":"x"}`,
		`{"channel":"webhook","reason":"x"}`, `{"channel":"webhook","order_id":"o1","reason":"x"}`,
		`{"channel":"webhook","all":true,"order_id":"o1","event":"order.paid","reason":"x"}`,
		`{"channel":"webhook","all":true,"reason":"x","x":1}`,
		`{"channel":"webhook","all":true,"reason":"a\u0000b"}`} {
		s.refused(api.CodeInvalidRequest, retry(bad))
	}
	g = retry(`{"channel":"webhook","all":true,"reason":"shop is back"}`)
	require.EqualValues(t, 2, g.num("retried"), g.raw)
	require.Equal(t, false, g.body["more"])
	require.Len(t, s.admin(http.MethodGet, "/admin/v1/notifications?state=pending", "").body["notifications"], 3)
	var log []struct{ Actor, Action, Target, Reason string }
	require.NoError(t, s.db.Read.Table("admin_log").Order("id").Find(&log).Error)
	require.Equal(t, []struct{ Actor, Action, Target, Reason string }{
		{"root", "notifications.retry", "o2", "shop is back"},
		{"root", "notifications.retry", "webhook", "shop is back"}}, log)
	require.NoError(t, s.db.Close())
	s.refused(api.CodeUnavailable, s.admin(http.MethodGet, "/admin/v1/notifications", ""))
	s.refused(api.CodeUnavailable, retry(`{"channel":"webhook","all":true,"reason":"x"}`))
}
