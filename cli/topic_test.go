package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/app"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

// TestCommandsManageTopics runs the topic commands, order events and dead letters against a real process.
func TestCommandsManageTopics(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case bodies <- r.Header.Get("webhook-id") + " " + string(body):
		default:
		}
		if strings.HasPrefix(r.Header.Get("webhook-id"), "points:bad-") {
			w.WriteHeader(http.StatusGone)
		}
	}))
	defer receiver.Close()
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Delay.AllowPrivate, cfg.Delay.OrderEvents = true, true
	app := startApp(t, cfg, app.AllRoles())
	do := func(args ...string) outcome {
		t.Helper()
		return sluice(t, []string{"SLUICE_AUTH__SECRET=" + shop.Secret}, append(args, "--ops",
			"http://"+app.OpsAddr())...)
	}

	got := do("topic", "create", "--url", receiver.URL, "--delay", "10ms", "--event", "order.confirmed", "--reason",
		"points", "points")
	require.Equal(t, exitSuccess, got.code, got.err)
	require.Contains(t, got.out, "whsec_")
	require.Contains(t, got.out, "10ms")
	got = do("topic", "list")
	require.Contains(t, got.out, "points")
	require.NotContains(t, got.out, "whsec_")
	require.Equal(t, exitFailure, do("topic", "create", "--url", receiver.URL, "points").code)
	require.Contains(t, do("topic", "create", "--url", receiver.URL, "--event", "order.eaten", "other").
		err, "order.confirmed")
	require.Contains(t, do("topic", "create", "--url", receiver.URL, "--alert", "ops@shop.example", "other").
		err, "notify.email.addr is not set")
	require.Contains(t, do("topic", "set", "--alert", "ops@shop.example", "points").err, "notify.email.addr is not set")
	require.Equal(t, exitUsage, do("topic", "create", "points").code, "--url is missing")
	require.Equal(t, exitUsage, do("topic", "set", "points").code, "nothing to set")
	require.Equal(t, exitUsage, do("topic", "show", "no/name").code)

	openSale(t, inventory.NewSale{ID: "summer", Stock: 3}, app)
	resp, err := http.DefaultClient.Do(shop.Request(t, http.MethodPost,
		"http://"+app.Addr()+"/v1/sales/summer/orders", "ann"))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	order := path.Base(resp.Header.Get("Location"))
	select {
	case body := <-bodies:
		require.Contains(t, body, "points:"+order+":order.confirmed ")
		require.Contains(t, body, `"user_id":"ann"`)
	case <-time.After(15 * time.Second):
		t.Fatal("the order's event did not reach the topic's receiver")
	}

	require.Contains(t, do("topic", "off", "points").out, "off")
	require.Contains(t, do("topic", "on", "points").out, "on")
	require.Contains(t, do("topic", "set", "--timeout", "3s", "--event", "", "points").out, "3s")
	for _, id := range []string{"bad-1", "bad-2"} {
		require.Equal(t, exitSuccess, do("topic", "message", "add", "points", id, "--body", "1").code)
	}
	require.Eventually(t, func() bool {
		return strings.Count(do("topic", "dead", "list", "points").out, "the receiver answered 410") == 2
	}, 15*time.Second, 20*time.Millisecond)
	require.Contains(t, do("topic", "dead", "list", "--limit", "1", "points").out, "more with --skip 1")
	require.Equal(t, exitFailure, do("topic", "delete", "points").code, "it has dead letters")
	require.Equal(t, outcome{}, do("topic", "dead", "drop", "--reason", "by hand", "points", "bad-1"))
	require.Equal(t, exitSuccess, do("topic", "dead", "retry", "points", "bad-2").code)
	require.Eventually(t, func() bool {
		return strings.Contains(do("topic", "dead", "list", "points").out, "bad-2")
	}, 15*time.Second, 20*time.Millisecond)
	require.Equal(t, outcome{}, do("topic", "dead", "drop", "points", "bad-2"))
	require.Equal(t, outcome{}, do("topic", "delete", "--reason", "over", "points"))
	require.Contains(t, do("topic", "show", "points").err, "not_found")
}
