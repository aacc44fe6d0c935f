package alert_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/notify"
	"sluice/notify/alert"
	"sluice/notify/webhook"
)

// alertsTo returns alerts that go to a real mail server and a real receiver.
func alertsTo(t *testing.T, server *providers.MailServer, shop *providers.Receiver, clock *testkit.Clock,
) *alert.Alerts {
	t.Helper()
	return open(t, place{server: server, shop: shop, now: clock.Now})
}

func TestAStormIsOneAlert(t *testing.T) {
	t.Parallel()
	server, shop := quietMailServer(t), providers.NewReceiver(t, providers.Status(http.StatusOK))
	clock := testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a := alertsTo(t, server, shop, clock)
	a.StepAll(t.Context())
	require.Empty(t, shop.Calls(), "nothing happened")
	a.Add("notifications of channel sms", 1)
	a.StepAll(t.Context())
	require.Len(t, server.Received(), 1)
	require.Len(t, shop.Calls(), 1)
	for range 500 {
		a.Add("notifications of channel email", 2)
	}
	a.Add("notifications of channel sms", 3)
	clock.Advance(interval - time.Second)
	a.StepAll(t.Context())
	require.Len(t, shop.Calls(), 1, "within the interval")
	clock.Advance(time.Second)
	a.StepAll(t.Context())
	require.Len(t, shop.Calls(), 2)
	var body struct {
		Type string
		Data struct {
			Summary string
			Causes  map[string]int64
		}
	}
	last := shop.Calls()[1]
	require.NoError(t, json.Unmarshal([]byte(last.Body), &body))
	require.Equal(t, "alert", body.Type)
	require.Equal(t, "Sluice: 1003 given up", body.Data.Summary)
	require.Equal(t, map[string]int64{"notifications of channel email": 1000, "notifications of channel sms": 3},
		body.Data.Causes)
	v, err := webhook.NewVerifier(clock.Now, secret)
	require.NoError(t, err)
	require.NoError(t, v.Verify(last.Header, []byte(last.Body)))
	mail := server.Received()[1]
	require.Contains(t, mail, "RCPT TO:<ops@shop.example>")
	require.Contains(t, mail, "1000  notifications of channel email")
	clock.Advance(interval)
	a.StepAll(t.Context())
	require.Len(t, shop.Calls(), 2, "what was sent is not repeated")
}

func TestAnAlertThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	server, shop := quietMailServer(t), providers.NewReceiver(t, providers.Status(http.StatusInternalServerError),
		providers.Status(http.StatusOK))
	clock := testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a := alertsTo(t, server, shop, clock)
	a.Add("x", 1)
	a.StepAll(t.Context())
	require.Len(t, server.Received(), 1)
	require.EqualValues(t, 1, a.Sent("webhook", "failed"))
	a.Add("x", 1)
	clock.Advance(alert.RetryAfter)
	a.StepAll(t.Context())
	require.Len(t, shop.Calls(), 2)
	require.Equal(t, shop.Calls()[0].Body, shop.Calls()[1].Body, "the same again: the first may have been heard")
	require.Equal(t, shop.Calls()[0].Header.Get("webhook-id"), shop.Calls()[1].Header.Get("webhook-id"))
	require.Len(t, server.Received(), 1, "the other way waits for its interval")
	require.EqualValues(t, 1, a.Sent("webhook", "delivered"))
	clock.Advance(interval)
	a.StepAll(t.Context())
	require.Len(t, shop.Calls(), 3, "what came meanwhile is another alert")
	require.Contains(t, shop.Calls()[2].Body, `"causes":{"x":1}`)
	require.NotEqual(t, shop.Calls()[0].Header.Get("webhook-id"), shop.Calls()[2].Header.Get("webhook-id"))
}

func TestAlertsAreBounded(t *testing.T) {
	t.Parallel()
	a := alertsTo(t, quietMailServer(t), providers.NewReceiver(t, providers.Status(http.StatusOK)),
		testkit.NewClock(time.UnixMilli(0)))
	for i := range 1000 {
		a.Add(fmt.Sprint("cause ", i), 1)
	}
	require.Len(t, a.Causes(), alert.MaxCauses+1)
	require.EqualValues(t, 1000-alert.MaxCauses, a.Causes()["other causes"])
}

func TestAlertConfig(t *testing.T) {
	t.Parallel()
	require.NoError(t, alert.DefaultConfig().Check(false))
	err := alert.Config{Emails: []string{"ops"}, URL: "nowhere"}.Check(false)
	for _, key := range []string{"notify.alert.emails", "notify.alert.url", "notify.alert.secrets",
		"notify.alert.interval", "notify.email.addr"} {
		require.ErrorContains(t, err, key)
	}
}

// TestAnAlertReachesTheOtherAddresses checks that each operator's address gets its own alert. A refused address, or a
// way that panics, keeps it from no other.
func TestAnAlertReachesTheOtherAddresses(t *testing.T) {
	t.Parallel()
	server, shop := quietMailServer(t), providers.NewReceiver(t, providers.Status(http.StatusOK))
	server.Answer(func(step, line string) string {
		if step == "rcpt" && strings.Contains(line, "gone@") {
			return "550 no such user"
		}
		return ""
	})
	clock := testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a := open(t, place{server: server, shop: shop, now: clock.Now,
		emails: []string{"ann@shop.example", "gone@shop.example", "bob@shop.example"}})
	a.AddWay("panics", func() notify.Result { panic("poison") })
	a.Add("x", 1)
	a.StepAll(t.Context())
	require.Len(t, server.Received(), 2)
	for _, address := range []string{"ann@shop.example", "bob@shop.example"} {
		require.Contains(t, strings.Join(server.Received(), "\n"), "RCPT TO:<"+address+">")
	}
	require.Len(t, shop.Calls(), 1)
	clock.Advance(alert.RetryAfter)
	a.StepAll(t.Context())
	require.Len(t, server.Received(), 2, "what was sent is not repeated")
}
