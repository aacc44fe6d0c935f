package app

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

// TestNoAdminSurfaceOnThePublicListener checks that no operators' route is on the public listener, even for an
// administrator.
func TestNoAdminSurfaceOnThePublicListener(t *testing.T) {
	t.Parallel()
	app := startApp(t, shop.Config(t, "sqlite", testkit.Redis(t).Addr()), Roles{Gateway: true})
	public := map[string]bool{}
	for _, r := range app.gateway.Handler().Routes() {
		public[r.Method+" "+r.Path] = true
	}
	for _, r := range app.ops.Routes() {
		if r.Path == "/openapi.json" {
			continue
		}
		require.False(t, public[r.Method+" "+r.Path], "%s %s is public", r.Method, r.Path)
		path := strings.NewReplacer(":sale", "s", ":id", "i", ":user", "u").Replace(r.Path)
		require.Equal(t, http.StatusNotFound, shop.Ask(t, app.Addr(), r.Method, path, true), "%s %s", r.Method, path)
		if strings.HasPrefix(path, "/admin/") {
			require.Equal(t, http.StatusUnauthorized, shop.Ask(t, app.OpsAddr(), r.Method, path, false), "%s %s",
				r.Method, path)
		}
	}
}

// TestLogsHoldNoSecretsAndNobody checks that the log of a whole order contains neither secrets nor people.
func TestLogsHoldNoSecretsAndNobody(t *testing.T) {
	t.Parallel()
	var log shop.WatchedLog
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Gateway.AccessLogEvery = 1
	app, err := New(t.Context(), cfg, Options{Roles: AllRoles(),
		Log:      slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registry: prometheus.NewRegistry(), Now: time.Now, Version: "test"})
	require.NoError(t, err)
	require.NoError(t, app.Start(t.Context()))
	stop := func() { require.NoError(t, stopApp(app)) }
	t.Cleanup(stop)
	openSale(t, inventory.NewSale{ID: "journey", Stock: 2}, app)

	const user, mail, phone, key = "shopper-jane", "jane.doe@example.org", "+8613800138000", "key-of-jane"
	place := func(body string) *http.Response {
		req := shop.Request(t, http.MethodPost, "http://"+app.Addr()+"/v1/sales/journey/orders?secret=in-the-query",
			user)
		req.Body = http.NoBody
		if body != "" {
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", key)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp
	}
	contact := `{"email":"` + mail + `","phone":"` + phone + `"}`
	resp := place(contact)
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	self, receipt := resp.Header.Get("Location"), resp.Header.Get("Sluice-Receipt")
	require.NotEmpty(t, receipt)
	require.Equal(t, http.StatusUnprocessableEntity, place(`{"email":"other@example.org"}`).StatusCode)
	require.Equal(t, http.StatusBadRequest, place(`{"email":"`+mail).StatusCode)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(shop.Request(t, method, "http://"+app.Addr()+self+"?wait=5s", user))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	require.Equal(t, http.StatusUnauthorized, shop.Ask(t, app.Addr(), http.MethodGet, "/v1/orders", false))
	stop()

	text := log.String()
	require.Contains(t, text, `"route":"/v1/sales/:sale/orders"`, "the journey is in the log")
	for name, secret := range map[string]string{"secret": shop.Secret, "user": user, "e-mail": mail,
		"phone": phone[1:], "idempotency key": key,
		"receipt": receipt, "token": "eyJ", "query": "in-the-query", "authorization": "Bearer"} {
		require.NotContains(t, text, secret, name)
	}
}
