package app

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/delay"
	"sluice/gateway/auth"
	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/shop"
	"sluice/notify/channel"
)

// ownTemplates returns a folder with the shipped English templates and those of a shop's own.
func ownTemplates(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "en"), 0o750))
	for file, more := range map[string]string{
		"sms.txt":    `{{define "coupon"}}Your coupon {{.code}} ends today{{end}}`,
		"email.txt":  `{{define "coupon.subject"}}Coupon {{.code}}{{end}}{{define "coupon"}}It ends today.{{end}}`,
		"email.html": `{{define "coupon"}}<p>{{.code}}</p>{{end}}`,
	} {
		shipped, err := os.ReadFile(filepath.Join("..", "notify", "channel", "templates", "en", file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, "en", file), append(shipped, more...), 0o600))
	}
	return folder
}

// ownApp starts a process that sends through a mail server and an SMS provider. post adds one message to a topic.
func ownApp(t *testing.T, sms *providers.Receiver, change func(*configs.Config)) (app *App, box mailbox,
	rdb *redis.Client,
	ask func(method, path, body string) (int, string)) {
	t.Helper()
	server := testkit.Redis(t)
	cfg := shop.Config(t, "sqlite", server.Addr())
	box = newMailbox(t, &cfg)
	cfg.Notify.Email.Enabled, cfg.Notify.Templates = true, ownTemplates(t)
	cfg.Notify.SMS.Enabled, cfg.Notify.SMS.Provider, cfg.Notify.SMS.DefaultRegion = true, channel.SMSGeneric, "CN"
	cfg.Notify.SMS.HTTP.URL, cfg.Notify.SMS.HTTP.Body = sms.URL,
		`{"id":{{json .ID}},"to":{{json .To}},"text":{{json .Text}}}`
	cfg.Work.Addr = "127.0.0.1:0"
	change(&cfg)
	require.NoError(t, cfg.Validate())
	app = startApp(t, cfg, AllRoles())
	token := systemsToken(t, auth.Rights{Publish: []string{"sms", "email"}})
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	ask = func(method, path, body string) (int, string) {
		return asSystem(t, client, token, method, "http://"+app.WorkAddr()+"/work/v1/topics/"+path, body)
	}
	return app, box, server.Client(), ask
}

// waitForTopics waits until the topics of the channels are there.
func waitForTopics(t *testing.T, app *App) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, sms := app.topics.Snapshot().Topic("sms")
		_, email := app.topics.Snapshot().Topic("email")
		return sms && email
	}, 30*time.Second, 5*time.Millisecond)
}

// TestMessagesOfTheShopsOwnGoOut sends texts and e-mails of another system by the channels, and checks what is left.
func TestMessagesOfTheShopsOwnGoOut(t *testing.T) {
	t.Parallel()
	provider := providers.NewReceiver(t, providers.Status(http.StatusTooManyRequests, "Retry-After", "1"),
		providers.AcceptAll)
	app, box, rdb, ask := ownApp(t, provider, func(*configs.Config) {})
	waitForTopics(t, app)
	for topic, bodies := range map[string][]string{
		"sms": {`{"to":"13800138000","text":"Ready for collection"}`,
			`{"to":"+8613900139000","template":"coupon","data":{"code":"C17"},"locale":"en-GB"}`},
		"email": {`{"to":"ann@shopper.example","subject":"Ready","text":"It waits for you."}`,
			`{"to":"bob@shopper.example","template":"coupon","data":{"code":"C18"}}`},
	} {
		for i, body := range bodies {
			status, text := ask(http.MethodPost, topic+"/messages",
				fmt.Sprintf(`{"messages":[{"id":"m%d","body":%s}]}`, i, body))
			require.Equal(t, http.StatusOK, status, text)
		}
	}
	subject, text := box.to(t, "ann@shopper.example")
	require.Equal(t, []string{"Ready", "It waits for you."}, []string{subject, strings.TrimSpace(text)})
	subject, text = box.to(t, "bob@shopper.example")
	require.Equal(t, []string{"Coupon C18", "It ends today."}, []string{subject, strings.TrimSpace(text)})
	waitForMessages(t, ask, "sms", delay.Delivered, 2)
	sent := ""
	for _, call := range provider.Calls()[1:] {
		sent += call.Body
	}
	require.Contains(t, sent, `{"id":"sms:m0","to":"+8613800138000","text":"Ready for collection"}`)
	require.Contains(t, sent, `{"id":"sms:m1","to":"+8613900139000","text":"Your coupon C17 ends today"}`)
	_, shown := ask(http.MethodGet, "sms/messages/m0", "")
	require.Contains(t, shown, `"attempts":1`, "the wait that the provider asked for cost none")
	require.NotContains(t, shown, "13800138000")
	require.Contains(t, asOperator(t, app, "/subscriptions/email.default/messages?state=complete"), `"m1"`)
	for _, record := range rdb.HGetAll(t.Context(), app.cfg.Redis.Prefix+":delay:{sms}:messages").Val() {
		require.NotContains(t, record, "138")
	}
}

// waitForMessages waits until messages m0 and so on of a topic are in a state.
func waitForMessages(t *testing.T, ask func(method, path, body string) (int, string), topic, state string, n int) {
	t.Helper()
	for i := range n {
		require.Eventually(t, func() bool {
			_, text := ask(http.MethodGet, fmt.Sprintf("%s/messages/m%d", topic, i), "")
			return strings.Contains(text, `"state":"`+state+`"`)
		}, 30*time.Second, 10*time.Millisecond)
	}
}

// TestMessagesOfTheShopsOwnAreChecked checks that what cannot be sent is refused when it is added, without its
// contents.
func TestMessagesOfTheShopsOwnAreChecked(t *testing.T) {
	t.Parallel()
	app, _, _, ask := ownApp(t, providers.NewReceiver(t, providers.AcceptAll), func(*configs.Config) {})
	waitForTopics(t, app)
	for _, one := range []struct{ topic, body, field string }{
		{"sms", `{"to":"1380013","text":"a"}`, "body.to"},
		{"sms", `{"to":"13800138000"}`, "body.text"},
		{"sms", `{"to":"13800138000","text":"a","template":"coupon"}`, "body.text"},
		{"sms", `{"to":"13800138000","text":"a","subject":"b"}`, "body.subject"},
		{"sms", `{"to":"13800138000","text":"` + strings.Repeat("x", 1001) + `"}`, "body.text"},
		{"sms", `{"to":"13800138000","text":"a","cc":"b"}`, `.body"`},
		{"sms", `{"to":"13800138000","template":"none"}`, "body.template"},
		{"sms", `{"to":"13800138000","template":"order.paid","data":{}}`, "body.template"},
		{"sms", `{"to":"13800138000","template":"coupon","data":{"cod":"x"}}`, "body.data"},
		{"sms", `[1]`, `.body"`},
		{"email", `{"to":"13800138000","subject":"s","text":"a"}`, "body.to"},
		{"email", `{"to":"Ann <13800138000@a.example>","subject":"s","text":"a"}`, "body.to"},
		{"email", `{"to":"13800138000@a.example","text":"a"}`, "body.subject"},
		{"email", `{"to":"13800138000@a.example","subject":"a\r\nBcc: b","text":"a"}`, "body.subject"},
		{"email", `{"to":"13800138000@a.example","subject":"s","template":"coupon","data":{"code":1}}`, "body.subject"},
	} {
		status, text := ask(http.MethodPost, one.topic+"/messages", `{"messages":[{"id":"m","body":`+one.body+`}]}`)
		require.Equal(t, http.StatusBadRequest, status, one.body)
		require.Contains(t, text, one.field, one.body)
		require.NotContains(t, text, "1380013", "what was sent is not repeated")
	}
	_, err := app.topics.Create(t.Context(), "sms", delay.Change{URL: new("")}, "ann", "")
	require.ErrorContains(t, err, "kept")
	require.ErrorIs(t, app.topics.Delete(t.Context(), "sms", "ann", ""), delay.ErrChannelTopic)
	_, err = app.topics.Update(t.Context(), "sms", delay.Change{URL: new("https://a.example")}, "ann", "")
	require.ErrorIs(t, err, delay.ErrChannelTopic)
	_, err = app.topics.CreateSubscription(t.Context(), delay.NewSubscription{Name: "spy", Topic: "sms"},
		delay.SubscriptionChange{}, "ann", "")
	require.ErrorIs(t, err, delay.ErrChannelTopic)
}

// TestMessagesOfTheShopsOwnAreGivenUpAndCancelled checks the ends that are no delivery.
func TestMessagesOfTheShopsOwnAreGivenUpAndCancelled(t *testing.T) {
	t.Parallel()
	provider := providers.NewReceiver(t, providers.Status(http.StatusUnprocessableEntity))
	app, _, _, ask := ownApp(t, provider, func(c *configs.Config) {
		c.Notify.Alert.Emails = []string{"ops@shop.example"}
	})
	waitForTopics(t, app)
	status, text := ask(http.MethodPost, "sms/messages",
		`{"messages":[{"id":"m0","body":{"to":"13800138000","text":"a"}},
		{"id":"later","delay_ms":600000,"body":{"to":"13800138000","text":"b"}}]}`)
	require.Equal(t, http.StatusOK, status, text)
	waitForMessages(t, ask, "sms", delay.Dead, 1)
	_, shown := ask(http.MethodGet, "sms/messages/m0", "")
	require.Contains(t, shown, `"last_error":"http status 422"`)
	status, text = ask(http.MethodDelete, "sms/messages/later", "")
	require.Equal(t, http.StatusNoContent, status, text)
	_, shown = ask(http.MethodGet, "sms/messages/later", "")
	require.Contains(t, shown, `"state":"cancelled"`)
	require.NotContains(t, shown, "138")
}

// TestAChannelThatIsOffTakesNoMessages checks that adding to it says what to enable.
func TestAChannelThatIsOffTakesNoMessages(t *testing.T) {
	t.Parallel()
	_, _, _, ask := ownApp(t, providers.NewReceiver(t, providers.AcceptAll), func(c *configs.Config) {
		c.Notify.SMS.Enabled = false
	})
	status, text := ask(http.MethodPost, "sms/messages",
		`{"messages":[{"id":"m","body":{"to":"13800138000","text":"a"}}]}`)
	require.Equal(t, http.StatusConflict, status, text)
	require.Contains(t, text, "notify.sms")
}
