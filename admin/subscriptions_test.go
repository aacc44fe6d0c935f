package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/stack"
)

func TestSubscriptionsThroughTheAdminAPI(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	const topics, subs = "/admin/v1/topics", "/admin/v1/subscriptions"
	s.Admin(http.MethodPost, topics, `{"name":"orders","url":""}`)
	made := s.Admin(http.MethodPost, subs, `{"name":"points","topic":"orders","url":"https://points.example/hook",
		"method":"GET","events":["order.paid"],"sales":["flash-*"],"reason":"new"}`)
	require.Equal(t, http.StatusCreated, made.Status, made.Raw)
	require.True(t, strings.HasPrefix(made.Text("secret"), "whsec_"))
	pull := s.Admin(http.MethodPost, subs, `{"name":"stock","topic":"orders","lease_ms":5000}`)
	require.Equal(t, http.StatusCreated, pull.Status, pull.Raw)
	require.Equal(t, "pull", pull.Text("kind"))
	require.Equal(t, http.StatusConflict, s.Admin(http.MethodPost, subs, `{"name":"stock","topic":"orders"}`).Status)
	bad := s.Admin(http.MethodPost, subs, `{"name":"x.default","topic":"orders","lease_ms":1}`)
	require.Equal(t, http.StatusBadRequest, bad.Status)
	require.Contains(t, bad.Raw, `"lease_ms"`)
	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodPost, subs, `{"name":"x","topic":"none"}`).Status)

	added := s.Admin(http.MethodPost, topics+"/orders/messages", `{"messages":[{"id":"a","event":"order.paid",
		"sale":"flash-1","delay_ms":60000,"body":1},{"id":"b","delay_ms":60000,"body":2}]}`)
	require.Equal(t, http.StatusOK, added.Status, added.Raw)
	require.Equal(t, http.StatusBadRequest, s.Admin(http.MethodPost, topics+"/orders/messages",
		`{"messages":[{"id":"o1:order.paid","body":1}]}`).Status, "reserved")
	shown := s.Admin(http.MethodGet, topics+"/orders/messages/a", "")
	require.Contains(t, shown.Raw, `"deliveries"`)
	require.NotContains(t, s.Admin(http.MethodGet, topics+"/orders/messages/b", "").Raw, `"deliveries"`)
	list := s.Admin(http.MethodGet, subs+"/stock/messages?state=waiting&limit=1", "")
	require.Contains(t, list.Raw, `"next":1`)
	require.Equal(t, http.StatusBadRequest, s.Admin(http.MethodGet, subs+"/stock/messages?state=eaten", "").Status)
	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodGet, topics+"/orders/messages", "").Status, "no URL")

	all := s.Admin(http.MethodGet, subs+"?topic=orders", "")
	require.Equal(t, http.StatusOK, all.Status, all.Raw)
	require.NotContains(t, all.Raw, "whsec_", "a secret is shown once")
	require.Contains(t, s.Admin(http.MethodGet, topics+"/orders", "").Raw, `"subscriptions":["points","stock"]`)
	require.Equal(t, false, s.Admin(http.MethodPost, subs+"/points/off", `{"reason":"moving"}`).Body["enabled"])
	require.Equal(t, http.StatusOK, s.Admin(http.MethodPatch, subs+"/points", `{"method":"PUT"}`).Status)
	require.Equal(t, "PUT", s.Admin(http.MethodGet, subs+"/points", "").Text("method"))
	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodPost, subs+"/points/dead/a/retry", "").Status)
	require.Equal(t, http.StatusOK, s.Admin(http.MethodGet, subs+"/points/dead", "").Status)
	require.Equal(t, http.StatusConflict, s.Admin(http.MethodDelete, subs+"/stock", "").Status, "it has messages")
	require.Equal(t, http.StatusBadRequest, s.Admin(http.MethodDelete, subs+"/stock?give_up=maybe", "").Status)
	gone := s.Admin(http.MethodDelete, subs+"/stock?give_up=true&reason=over", "")
	require.Equal(t, http.StatusNoContent, gone.Status, gone.Raw)
	require.Equal(t, http.StatusNoContent, s.Admin(http.MethodDelete, topics+"/orders/messages/a", "").Status)
	require.Equal(t, http.StatusNoContent, s.Admin(http.MethodDelete, subs+"/points", "").Status)
	require.Equal(t, http.StatusConflict, s.Admin(http.MethodPost, topics+"/orders/messages",
		`{"messages":[{"id":"c","body":1}]}`).Status, "nobody would get it")
	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodGet, subs+"/points", "").Status)
}
