package app

import (
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/delay"
	"sluice/gateway/auth"
	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
	"sluice/notify"
	"sluice/notify/channel"
)

// mailbox is the mail server of a configuration.
type mailbox struct{ *providers.MailServer }

func newMailbox(t *testing.T, cfg *configs.Config) mailbox {
	t.Helper()
	m := mailbox{providers.NewMailServer(t, func(*providers.MailServer) {})}
	mail := &cfg.Notify.Email
	mail.Addr, mail.TLS, mail.From = m.Addr(), channel.TLSNone, "shop@shop.example"
	return m
}

// setAway lets the server refuse every session, or none.
func (m mailbox) setAway(away bool) {
	m.Answer(func(step, _ string) string {
		if away && step == "connect" {
			return "421 come back later"
		}
		return ""
	})
}

// to returns the subject and text of the first mail to an address.
func (m mailbox) to(t *testing.T, address string) (subject, text string) {
	t.Helper()
	var raw string
	require.Eventually(t, func() bool {
		for _, one := range m.Received() {
			lines := strings.SplitN(one, "\n", 3) // sender, recipient, message
			if strings.Contains(lines[1], "<"+address+">") {
				raw = lines[2]
				return true
			}
		}
		return false
	}, 30*time.Second, 10*time.Millisecond)
	msg, err := mail.ReadMessage(strings.NewReader(raw))
	require.NoError(t, err)
	subject, err = new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	require.NoError(t, err)
	var body io.Reader = quotedprintable.NewReader(msg.Body)
	if kind, params, _ := mime.ParseMediaType(msg.Header.Get("Content-Type")); strings.HasPrefix(kind, "multipart/") {
		body, err = multipart.NewReader(msg.Body, params["boundary"]).NextPart() // the reader decodes it
		require.NoError(t, err)
	}
	decoded, err := io.ReadAll(body)
	require.NoError(t, err)
	return subject, string(decoded)
}

// TestMailSpeaksTheShoppersLanguage checks that a Chinese order gets a Chinese mail with the deadline for payment.
func TestMailSpeaksTheShoppersLanguage(t *testing.T) {
	t.Parallel()
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	box := newMailbox(t, &cfg)
	cfg.Notify.Email.Enabled, cfg.Notify.TimeZone = true, "Asia/Shanghai"
	cfg.Payment.Secret, cfg.Payment.Timeout = []string{shop.HookSecret}, time.Hour
	require.NoError(t, cfg.Validate())
	app := startApp(t, cfg, AllRoles())
	openSale(t, inventory.NewSale{ID: "summer", Stock: 3}, app)
	for i, locale := range []string{"zh-CN", "en"} {
		req := shop.Order(t, app.Addr(), "summer", i)
		req.Body = io.NopCloser(strings.NewReader(`{"email":"` + locale + `@shopper.example","locale":"` +
			locale + `"}`))
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusAccepted, resp.StatusCode)
		requireKnownInstance(t, app, path.Base(resp.Header.Get("Location")))
		subject, text := box.to(t, locale+"@shopper.example")
		var payBy int64
		require.NoError(t, app.db.Read.Table("orders").Where("id = ?", path.Base(resp.Header.Get("Location"))).
			Pluck("pay_by", &payBy).Error)
		shanghai, err := time.LoadLocation("Asia/Shanghai")
		require.NoError(t, err)
		require.Contains(t, text, time.UnixMilli(payBy).In(shanghai).Format("2006-01-02 15:04 MST"))
		want := map[string][2]string{"zh-CN": {"订单已确认：Phone X", "前完成支付"}, "en": {"Phone X", "Pay by"}}[locale]
		require.Contains(t, subject, want[0])
		require.Contains(t, text, want[1])
	}
}

// asOperator reads from the admin API.
func asOperator(t *testing.T, app *App, path string) string {
	t.Helper()
	token, err := auth.Mint(app.cfg.Auth, "root", true, time.Hour, time.Now())
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+app.OpsAddr()+"/admin/v1"+path, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}

// requireKnownInstance checks that every instance in an order's timeline is this process.
func requireKnownInstance(t *testing.T, app *App, order string) {
	t.Helper()
	require.Eventually(t, func() bool {
		got := asOperator(t, app, "/orders/"+order+"/timeline")
		return strings.Contains(got, "confirmed") && strings.Contains(got, app.name[len(app.name)-11:])
	}, 15*time.Second, 20*time.Millisecond)
}

// TestDeadMessagesOfATopicAlert checks that dead letters of a topic alert the operators' webhook and the topic's own
// address.
func TestDeadMessagesOfATopicAlert(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusGone)
	}))
	t.Cleanup(receiver.Close)
	endpoint := shop.NewEndpoint(t)
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	box := newMailbox(t, &cfg)
	cfg.Delay.AllowPrivate = true
	cfg.Notify.Alert.URL, cfg.Notify.Alert.Secrets, cfg.Notify.Alert.AllowPrivate = endpoint.URL+"/alert",
		[]string{shop.HookSecret}, true
	require.NoError(t, cfg.Validate())
	app := startApp(t, cfg, AllRoles())
	_, err := app.topics.Create(t.Context(), "coupons", delay.Change{URL: &receiver.URL,
		Alert: new("ann@shop.example")}, "test", "")
	require.NoError(t, err)
	_, err = app.publisher.Add(t.Context(), "coupons", []delay.New{{ID: "bad-1", Body: []byte("1")}})
	require.NoError(t, err)
	subject, text := box.to(t, "ann@shop.example")
	require.Equal(t, "Sluice: 1 given up", subject)
	require.Contains(t, text, "1  delayed messages of topic coupons")
	require.Contains(t, text, "sluice topic dead list")
	require.Eventually(t, func() bool {
		return strings.Contains(endpoint.Bodies("/alert"), `"delayed messages of topic coupons":1`)
	}, 15*time.Second, 10*time.Millisecond)
}

// TestWhatWasOvertakenIsNotMailed has a confirmation that cannot be mailed before the order expires. The shopper gets
// only the expiry. Operators see what was left out, and other systems get both events.
func TestWhatWasOvertakenIsNotMailed(t *testing.T) {
	t.Parallel()
	for _, database := range []string{"sqlite", "mysql", "postgres"} {
		t.Run(database, func(t *testing.T) {
			cfg := shop.Config(t, database, testkit.Redis(t).Addr())
			box := newMailbox(t, &cfg)
			box.setAway(true)
			cfg.Notify.Email.Enabled, cfg.Notify.Email.Failures, cfg.Notify.RetryUnit = true, 1000, 200*time.Millisecond
			cfg.Payment.Secret, cfg.Payment.Timeout = []string{shop.HookSecret}, time.Second
			require.NoError(t, cfg.Validate())
			app := startApp(t, cfg, AllRoles())
			openSale(t, inventory.NewSale{ID: "summer", Stock: 3}, app)
			req := shop.Order(t, app.Addr(), "summer", 1)
			req.Body = io.NopCloser(strings.NewReader(`{"email":"ann@shopper.example","locale":"en"}`))
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusAccepted, resp.StatusCode)
			id := path.Base(resp.Header.Get("Location"))
			var states []int
			require.Eventually(t, func() bool {
				states = nil
				require.NoError(t, app.db.Read.Table("outbox").Where("order_id = ? AND channel = 'email'", id).
					Order("id").Pluck("state", &states).Error)
				return len(states) == 2 && states[0] == notify.StateOvertaken
			}, 20*time.Second, 5*time.Millisecond)
			require.Equal(t, notify.StatePending, states[1])
			box.setAway(false)
			subject, text := box.to(t, "ann@shopper.example")
			require.Equal(t, "Order expired: Phone X", subject)
			require.Contains(t, text, "You owe nothing")
			got := asOperator(t, app, "/notifications?state=overtaken")
			require.Contains(t, got, "order.confirmed")
			require.Contains(t, got, "not sent: the order is expired by now")
			require.Contains(t, asOperator(t, app, "/orders/"+id+"/timeline"), "not sent: the order is expired by now")
			require.Contains(t, scrape(t, app), `sluice_notifications_total{channel="email",outcome="overtaken"} 1`)
			var events []string
			require.Eventually(t, func() bool {
				entries, err := app.channels.Stream.After(t.Context(), "0-0", 100)
				require.NoError(t, err)
				events = nil
				for _, e := range entries {
					events = append(events, e.Fields["event"].(string))
				}
				return len(events) == 2
			}, 20*time.Second, 5*time.Millisecond)
			require.Equal(t, []string{notify.EventConfirmed, notify.EventExpired}, events)
			require.Len(t, box.Received(), 1)
		})
	}
}
