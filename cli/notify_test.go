package cli

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/app"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

// TestOperatorsBringDeadNotificationsBack follows a notification that the shop refuses. It becomes dead, causes an
// alert, is listed and retried by an operator, and arrives.
func TestOperatorsBringDeadNotificationsBack(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"sqlite", "mysql", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			endpoint := shop.NewEndpoint(t)
			endpoint.Status.Store(http.StatusGone)
			cfg := shop.Config(t, driver, testkit.Redis(t).Addr())
			cfg.Notify.Webhook.Enabled, cfg.Notify.Webhook.URL, cfg.Notify.Webhook.AllowPrivate = true,
				endpoint.URL+"/hook", true
			cfg.Notify.Webhook.Secrets = []string{shop.HookSecret}
			cfg.Notify.Alert.URL, cfg.Notify.Alert.Secrets, cfg.Notify.Alert.AllowPrivate = endpoint.URL+"/alert",
				[]string{shop.HookSecret}, true
			cfg.Notify.SMS.Enabled = true // dry-run, and this shopper gave no number
			require.NoError(t, cfg.Validate())
			app := startApp(t, cfg, app.AllRoles())
			openSale(t, inventory.NewSale{ID: "summer", Stock: 3}, app)
			resp, err := http.DefaultClient.Do(shop.Order(t, app.Addr(), "summer", 1))
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			t.Cleanup(http.DefaultClient.CloseIdleConnections)

			do := func(args ...string) outcome {
				return sluice(t, []string{"SLUICE_AUTH__SECRET=" + shop.Secret}, append(args, "--ops",
					"http://"+app.OpsAddr())...)
			}
			require.Eventually(t, func() bool {
				return strings.Contains(do("notify", "list").out, "http status 410")
			}, 15*time.Second, 20*time.Millisecond)
			require.Eventually(t, func() bool {
				return strings.Contains(endpoint.Bodies("/alert"),
					"notifications of channel webhook")
			}, 15*time.Second, 20*time.Millisecond)
			require.Regexp(t, `sms .* order.confirmed .* no phone number was given`,
				do("notify", "list", "--state", "delivered", "--channel", "sms").out)
			endpoint.Status.Store(http.StatusNoContent)
			retried := do("notify", "retry", "--channel", "webhook", "--all", "--reason", "the shop is back")
			require.Equal(t, outcome{exitSuccess, "1 due again\n", ""}, retried)
			require.Eventually(t, func() bool {
				return strings.Contains(do("notify", "list", "--state", "delivered", "--channel", "webhook").
					out, "order.confirmed")
			}, 15*time.Second, 20*time.Millisecond)
			require.Contains(t, endpoint.Bodies("/hook"), `"type":"order.confirmed"`)
			require.Contains(t, endpoint.Bodies("/hook"), `"price_cents":9900`)
		})
	}
}

func TestNotifyCommandsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	env, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"notifications":[],"next_cursor":"abc"}`)
			return
		}
		_, _ = io.WriteString(w, `{"retried":10000,"more":true}`)
	})
	require.Contains(t, sluice(t, env, "notify", "list", ops).out, "more with --cursor abc")
	require.Equal(t, "{\"notifications\":[],\"next_cursor\":\"abc\"}\n",
		sluice(t, env, "notify", "list", "--json", ops).out)
	require.Equal(t, "10000 due again; more are dead: repeat the command\n",
		sluice(t, env, "notify", "retry", "--channel", "sms", "--all", "--reason", "r", ops).out)
	for _, wrong := range [][]string{{"list", "--state", "late"}, {"list", "--limit", "0"},
		{"retry", "--channel", "sms", "--reason", "r"},
		{"retry", "--channel", "sms", "--reason", "r", "--order", "o"},
		{"retry", "--channel", "sms", "--reason", "r", "--all", "--event", "e"}, {"retry", "--all"}} {
		require.Equal(t, exitUsage, sluice(t, env, append(append([]string{"notify"}, wrong...), ops)...).code, wrong)
	}
}
