package channel

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/providers"
	"sluice/notify"
	"sluice/notify/webhook"
)

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// sendTooLittle sends less than its Content-Length.
func sendTooLittle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, "half")
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// endless answers with a status and a body that never ends.
func endless(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "wait for it")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

func flood(w http.ResponseWriter, _ *http.Request) {
	for range 100 {
		if _, err := io.WriteString(w, strings.Repeat("x", 64<<10)); err != nil {
			return
		}
	}
}

func hookTo(t *testing.T, url string, timeout time.Duration) *webhookTransport {
	t.Helper()
	cfg := WebhookConfig{SenderConfig: DefaultSenderConfig(), URL: url, Secrets: []string{newSecret, oldSecret},
		AllowPrivate: true}
	cfg.Enabled, cfg.Timeout = true, timeout
	require.NoError(t, cfg.check(20*time.Second))
	w, err := newWebhook(cfg, time.Now)
	require.NoError(t, err)
	w.prefix = "sluice"
	t.Cleanup(w.close)
	return w
}

func TestWebhookIsSignedAndKeepsItsID(t *testing.T) {
	t.Parallel()
	shop := providers.NewReceiver(t, providers.Status(http.StatusInternalServerError), providers.Status(http.StatusOK))
	w := hookTo(t, shop.URL+"/hook?token=tok-secret", 5*time.Second)
	require.Equal(t, notify.Unreachable("http status 500"), w.send(t.Context(), confirmed(), ann()))
	require.Equal(t, notify.Delivered(), w.send(t.Context(), confirmed(), ann()))
	got := shop.Calls()
	for i, secret := range []string{oldSecret, newSecret} {
		v, err := webhook.NewVerifier(time.Now, secret)
		require.NoError(t, err)
		require.NoError(t, v.Verify(got[i].Header, []byte(got[i].Body)))
	}
	require.Equal(t, confirmed().ID(), got[0].Header.Get(webhook.HeaderID))
	require.Equal(t, got[0].Header.Get(webhook.HeaderID), got[1].Header.Get(webhook.HeaderID))
	require.Equal(t, "/hook?token=tok-secret", got[0].Path)
	for name, want := range map[string]string{"ce-specversion": "1.0", "ce-id": confirmed().ID(),
		"ce-source": "/sluice/orders", "ce-type": "order.confirmed", "ce-subject": confirmed().OrderID,
		"ce-time": "2023-11-14T22:13:20.000Z", "ce-sale": "phone", "Content-Type": "application/json"} {
		require.Equal(t, want, got[0].Header.Get(name), name)
	}
	require.JSONEq(t, `{"type": "order.confirmed", "version": 1, "timestamp": "2023-11-14T22:13:20.000Z", "data": {
		"order_id": "0198c0de-7a1b-7c3d-8e9f-0123456789ab", "sale_id": "phone", "user_id": "u1", "status": "confirmed",
		"quantity": 2, "price_cents": 9900, "currency": "CNY", "confirmed_at": "2023-11-14T22:13:20.000Z",
		"pay_by": "2026-11-11T00:15:00.000Z"}}`, got[0].Body)
	require.NotContains(t, got[0].Body, annMail)
	require.NotContains(t, got[0].Body, annPhone)
}

func TestWebhookResults(t *testing.T) {
	t.Parallel()
	elsewhere := providers.NewReceiver(t, providers.Status(http.StatusOK))
	for name, one := range map[string]struct {
		answer http.HandlerFunc
		want   notify.Result
	}{
		"created":         {providers.Status(201), notify.Delivered()},
		"redirect":        {providers.Status(307, "Location", elsewhere.URL), notify.Unreachable("http status 307")},
		"not let in":      {providers.Status(401), notify.Unreachable("http status 401")},
		"forbidden":       {providers.Status(403), notify.Unreachable("http status 403")},
		"nothing there":   {providers.Status(404), notify.Unreachable("http status 404")},
		"another method":  {providers.Status(405), notify.Unreachable("http status 405")},
		"too large":       {providers.Status(413), notify.Permanent("http status 413")},
		"makes no sense":  {providers.Status(422), notify.Permanent("http status 422")},
		"gone":            {providers.Status(410), notify.Permanent("http status 410")},
		"bad request":     {providers.Status(400), notify.Permanent("http status 400")},
		"request timeout": {providers.Status(408), notify.Retry("http status 408")},
		"too early":       {providers.Status(425), notify.Retry("http status 425")},
		"too many":        {providers.Status(429), notify.Hold(0, "http status 429")},
		"told to wait":    {providers.Status(429, "Retry-After", "7"), notify.Hold(7*time.Second, "http status 429")},
		"away for a time": {providers.Status(503, "Retry-After", "90"), notify.Hold(90*time.Second, "http status 503")},
		"long away":       {providers.Status(503, "Retry-After", "99999"), notify.Hold(time.Hour, "http status 503")},
		"nonsense wait":   {providers.Status(503, "Retry-After", "soon"), notify.Unreachable("http status 503")},
		"broken":          {providers.Status(502), notify.Unreachable("http status 502")},
		"hangs":           {hang, notify.Unreachable("no answer in time")},
		"dies":            {sendTooLittle, notify.Delivered()},
		"talks too much":  {flood, notify.Delivered()},
		"never ends":      {endless(http.StatusOK), notify.Delivered()},
		"endless refusal": {endless(http.StatusGone), notify.Permanent("http status 410")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shop := providers.NewReceiver(t, one.answer)
			require.Equal(t, one.want, hookTo(t, shop.URL, 300*time.Millisecond).send(t.Context(), confirmed(), ann()))
		})
	}
	require.Empty(t, elsewhere.Calls())
}

// As many calls as there are workers are under way at once. None waits for a connection, which would use up its time.
func TestWebhookConnectionsFollowWorkers(t *testing.T) {
	t.Parallel()
	const workers = 100
	var together sync.WaitGroup
	together.Add(workers)
	shop := providers.NewReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		together.Done()
		together.Wait()
		w.WriteHeader(http.StatusOK)
	})
	cfg := WebhookConfig{SenderConfig: DefaultSenderConfig(), URL: shop.URL, Secrets: []string{newSecret},
		AllowPrivate: true}
	cfg.Workers = workers
	w, err := newWebhook(cfg, time.Now)
	require.NoError(t, err)
	t.Cleanup(w.close)
	var calls sync.WaitGroup
	results := make([]notify.Result, workers)
	for i := range results {
		calls.Go(func() { results[i] = w.send(t.Context(), confirmed(), ann()) })
	}
	calls.Wait()
	for _, r := range results {
		require.Equal(t, notify.Delivered(), r)
	}
}

func TestWebhookRefusesPrivateAddresses(t *testing.T) {
	t.Parallel()
	shop := providers.NewReceiver(t, providers.Status(http.StatusOK))
	cfg := WebhookConfig{SenderConfig: DefaultSenderConfig(), URL: shop.URL, Secrets: []string{newSecret}}
	w, err := newWebhook(cfg, time.Now)
	require.NoError(t, err)
	t.Cleanup(w.close)
	require.Equal(t, notify.Unreachable("the address is private or reserved"), w.send(t.Context(), confirmed(), ann()))
	require.Empty(t, shop.Calls())
	shop.Close()
	require.Equal(t, notify.Unreachable("connection refused"),
		hookTo(t, shop.URL, time.Second).send(t.Context(), confirmed(), ann()))
}

func TestWebhookConfig(t *testing.T) {
	t.Parallel()
	cfg := WebhookConfig{SenderConfig: SenderConfig{Rate: -1}}
	require.NoError(t, cfg.check(20*time.Second), "off")
	cfg.Enabled, cfg.URL, cfg.Secrets = true, "file:///etc/tok-secret", []string{"whsec_tok-secret"}
	err := cfg.check(20 * time.Second)
	for _, key := range []string{"url", "secrets", "workers", "rate", "timeout", "failures", "pause"} {
		require.ErrorContains(t, err, "notify.webhook."+key)
	}
	require.NotContains(t, err.Error(), "tok-secret")
}
