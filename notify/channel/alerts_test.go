package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/notify"
	"sluice/notify/webhook"
)

// alertsTo returns Alerts that go to a real mail server and a real receiver.
func alertsTo(t *testing.T, server *smtpServer, shop *receiver, clock *testkit.Clock) *Alerts {
	t.Helper()
	cfg := DefaultAlertConfig()
	cfg.Emails, cfg.URL, cfg.Secrets, cfg.AllowPrivate = []string{"ops@shop.example"}, shop.URL, []string{
		newSecret}, true
	mail := server.config()
	mail.Enabled = false
	require.NoError(t, errors.Join(mail.check(20*time.Second), cfg.check(mail)))
	a, err := NewAlerts(AlertParts{Config: cfg, Mailer: mailerFor(t, mail), Log: slog.New(slog.DiscardHandler),
		Now: clock.Now})
	require.NoError(t, err)
	return a
}

func (a *Alerts) stepAll(t *testing.T) {
	t.Helper()
	for _, w := range a.ways {
		a.step(t.Context(), w)
	}
}

func TestAStormIsOneAlert(t *testing.T) {
	t.Parallel()
	server, shop := newSMTPServer(t, func(*smtpServer) {}), newReceiver(t, status(http.StatusOK))
	clock := testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a := alertsTo(t, server, shop, clock)
	a.stepAll(t)
	require.Empty(t, shop.calls(), "nothing happened")
	a.Add("notifications of channel sms", 1)
	a.stepAll(t)
	require.Len(t, server.received(), 1)
	require.Len(t, shop.calls(), 1)
	for range 500 {
		a.Add("notifications of channel email", 2)
	}
	a.Add("notifications of channel sms", 3)
	clock.Advance(a.interval - time.Second)
	a.stepAll(t)
	require.Len(t, shop.calls(), 1, "within the interval")
	clock.Advance(time.Second)
	a.stepAll(t)
	require.Len(t, shop.calls(), 2)
	var body struct {
		Type string
		Data struct {
			Summary string
			Causes  map[string]int64
		}
	}
	last := shop.calls()[1]
	require.NoError(t, json.Unmarshal([]byte(last.body), &body))
	require.Equal(t, "alert", body.Type)
	require.Equal(t, "Sluice: 1003 given up", body.Data.Summary)
	require.Equal(t, map[string]int64{"notifications of channel email": 1000, "notifications of channel sms": 3},
		body.Data.Causes)
	v, err := webhook.NewVerifier(clock.Now, newSecret)
	require.NoError(t, err)
	require.NoError(t, v.Verify(last.header, []byte(last.body)))
	mail := server.received()[1]
	require.Contains(t, mail, "RCPT TO:<ops@shop.example>")
	require.Contains(t, mail, "1000  notifications of channel email")
	clock.Advance(a.interval)
	a.stepAll(t)
	require.Len(t, shop.calls(), 2, "what was sent is not repeated")
}

func TestAnAlertThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	server, shop := newSMTPServer(t, func(*smtpServer) {}), newReceiver(t, status(http.StatusInternalServerError),
		status(http.StatusOK))
	clock := testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a := alertsTo(t, server, shop, clock)
	a.Add("x", 1)
	a.stepAll(t)
	require.Len(t, server.received(), 1)
	require.EqualValues(t, 1, testutil.ToFloat64(a.sent.WithLabelValues("webhook", "failed")))
	a.Add("x", 1)
	clock.Advance(alertRetry)
	a.stepAll(t)
	require.Len(t, shop.calls(), 2)
	require.Equal(t, shop.calls()[0].body, shop.calls()[1].body, "the same again: the first may have been heard")
	require.Equal(t, shop.calls()[0].header.Get("webhook-id"), shop.calls()[1].header.Get("webhook-id"))
	require.Len(t, server.received(), 1, "the other way waits for its interval")
	require.EqualValues(t, 1, testutil.ToFloat64(a.sent.WithLabelValues("webhook", alertDelivered)))
	clock.Advance(a.interval)
	a.stepAll(t)
	require.Len(t, shop.calls(), 3, "what came meanwhile is another alert")
	require.Contains(t, shop.calls()[2].body, `"causes":{"x":1}`)
	require.NotEqual(t, shop.calls()[0].header.Get("webhook-id"), shop.calls()[2].header.Get("webhook-id"))
}

func TestAlertsAreBounded(t *testing.T) {
	t.Parallel()
	a := alertsTo(t, newSMTPServer(t, func(*smtpServer) {}), newReceiver(t, status(http.StatusOK)),
		testkit.NewClock(time.UnixMilli(0)))
	for i := range 1000 {
		a.Add(fmt.Sprint("cause ", i), 1)
	}
	require.Len(t, a.ways[0].causes, maxCauses+1)
	require.EqualValues(t, 1000-maxCauses, a.ways[0].causes["other causes"])
}

func TestAlertConfig(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultAlertConfig().check(DefaultEmailConfig()))
	err := AlertConfig{Emails: []string{"ops"}, URL: "nowhere"}.check(DefaultEmailConfig())
	for _, key := range []string{"notify.alert.emails", "notify.alert.url", "notify.alert.secrets",
		"notify.alert.interval", "notify.email.addr"} {
		require.ErrorContains(t, err, key)
	}
}

// TestAnAlertReachesTheOtherAddresses checks that each operator's address gets its own alert. A refused address, or a
// way that panics, keeps it from no other.
func TestAnAlertReachesTheOtherAddresses(t *testing.T) {
	t.Parallel()
	server, shop := newSMTPServer(t, func(*smtpServer) {}), newReceiver(t, status(http.StatusOK))
	server.answer(func(step, line string) string {
		if step == "rcpt" && strings.Contains(line, "gone@") {
			return "550 no such user"
		}
		return ""
	})
	cfg := DefaultAlertConfig()
	cfg.Emails = []string{"ann@shop.example", "gone@shop.example", "bob@shop.example"}
	cfg.URL, cfg.Secrets, cfg.AllowPrivate = shop.URL, []string{newSecret}, true
	mail := server.config()
	mail.Enabled = false
	require.NoError(t, errors.Join(mail.check(20*time.Second), cfg.check(mail)))
	clock := testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a, err := NewAlerts(AlertParts{Config: cfg, Mailer: mailerFor(t, mail), Log: slog.New(slog.DiscardHandler),
		Now: clock.Now})
	require.NoError(t, err)
	a.add("panics", "", func(context.Context, alert) notify.Result { panic("poison") })
	a.Add("x", 1)
	a.stepAll(t)
	require.Len(t, server.received(), 2)
	for _, address := range []string{"ann@shop.example", "bob@shop.example"} {
		require.Contains(t, strings.Join(server.received(), "\n"), "RCPT TO:<"+address+">")
	}
	require.Len(t, shop.calls(), 1)
	clock.Advance(alertRetry)
	a.stepAll(t)
	require.Len(t, server.received(), 2, "what was sent is not repeated")
}
