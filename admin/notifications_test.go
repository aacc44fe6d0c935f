package admin_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/api"
	"sluice/internal/testkit/stack"
	"sluice/notify"
)

func (s *world) outbox(state int, channel, event string, orders ...string) {
	s.T.Helper()
	rows := make([]notify.Row, len(orders))
	for i, id := range orders {
		rows[i] = notify.Row{OrderID: id, Event: event, Channel: channel, SaleID: "phone", UserID: "ann",
			State: state, Attempts: 11,
			LastError: "http status 410", CreatedAt: 1_700_000_000_000, NextAt: 1_700_000_000_000 + int64(i),
			DeliveredAt: 1_700_000_001_000}
	}
	require.NoError(s.T, s.DB.Tx(s.T.Context(), func(tx *gorm.DB) error { return notify.Insert(tx, rows) }))
}

func TestAdminListsNotifications(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.outbox(notify.StateDead, "webhook", notify.EventPaid, "o1", "o2", "o3")
	s.outbox(notify.StatePending, "email", notify.EventPaid, "o1")
	s.outbox(notify.StateDelivered, "sms", notify.EventPaid, "o1")
	var seen []string
	query := "?limit=2"
	for range 2 {
		g := s.Admin(http.MethodGet, "/admin/v1/notifications"+query, "")
		for _, one := range g.Body["notifications"].([]any) {
			n := one.(map[string]any)
			require.Equal(t, "dead", n["state"])
			require.Equal(t, "http status 410", n["last_error"])
			require.Equal(t, "2023-11-14T22:13:20.000Z", n["created_at"])
			seen = append(seen, n["order_id"].(string))
		}
		query = "?limit=2&cursor=" + g.Text("next_cursor")
	}
	require.Equal(t, []string{"o3", "o2", "o1"}, seen)
	pending := s.Admin(http.MethodGet, "/admin/v1/notifications?state=pending&channel=email", "").
		Body["notifications"].([]any)
	require.NotEmpty(t, pending[0].(map[string]any)["due_at"])
	delivered := s.Admin(http.MethodGet, "/admin/v1/notifications?state=delivered", "").Body["notifications"].([]any)
	require.Equal(t, "2023-11-14T22:13:21.000Z", delivered[0].(map[string]any)["delivered_at"])
	require.Empty(t, s.Admin(http.MethodGet, "/admin/v1/notifications?channel=sms", "").Body["notifications"])
	for _, bad := range []string{"state=late", "limit=0", "cursor=x", "channel=averylongchannelname"} {
		s.Refused(api.CodeInvalidRequest, s.Admin(http.MethodGet, "/admin/v1/notifications?"+bad, ""))
	}
}

func TestAdminRetriesNotifications(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.outbox(notify.StateDead, "webhook", notify.EventPaid, "o1", "o2", "o3")
	s.outbox(notify.StateDelivered, "webhook", notify.EventPaid, "o4")
	retry := func(body string) stack.Answer { return s.Admin(http.MethodPost, "/admin/v1/notifications/retry", body) }
	g := retry(`{"channel":"webhook","order_id":"o2","event":"order.paid","reason":"shop is back"}`)
	require.Equal(t, http.StatusOK, g.Status, g.Raw)
	require.EqualValues(t, 1, g.Num("retried"))
	s.Refused(api.CodeConflict, retry(`{"channel":"webhook","order_id":"o2","event":"order.paid","reason":"again"}`))
	s.Refused(api.CodeConflict, retry(`{"channel":"webhook","order_id":"o4","event":"order.paid","reason":"again"}`))
	s.Refused(api.CodeNotFound, retry(`{"channel":"email","order_id":"o2","event":"order.paid","reason":"again"}`))
	for _, bad := range []string{`{"channel":"webhook","all":true}`, `{"all":true,"reason":"x"}`,
		`{"channel":"webhook","reason":"x"}`, `{"channel":"webhook","order_id":"o1","reason":"x"}`,
		`{"channel":"webhook","all":true,"order_id":"o1","event":"order.paid","reason":"x"}`,
		`{"channel":"webhook","all":true,"reason":"x","x":1}`,
		`{"channel":"webhook","all":true,"reason":"a\u0000b"}`} {
		s.Refused(api.CodeInvalidRequest, retry(bad))
	}
	g = retry(`{"channel":"webhook","all":true,"reason":"shop is back"}`)
	require.EqualValues(t, 2, g.Num("retried"), g.Raw)
	require.Equal(t, false, g.Body["more"])
	require.Len(t, s.Admin(http.MethodGet, "/admin/v1/notifications?state=pending", "").Body["notifications"], 3)
	var log []struct{ Actor, Action, Target, Reason string }
	require.NoError(t, s.DB.Read.Table("admin_log").Order("id").Find(&log).Error)
	require.Equal(t, []struct{ Actor, Action, Target, Reason string }{
		{"root", "notifications.retry", "o2", "shop is back"},
		{"root", "notifications.retry", "webhook", "shop is back"}}, log)
	require.NoError(t, s.DB.Close())
	s.Refused(api.CodeUnavailable, s.Admin(http.MethodGet, "/admin/v1/notifications", ""))
	s.Refused(api.CodeUnavailable, retry(`{"channel":"webhook","all":true,"reason":"x"}`))
}
