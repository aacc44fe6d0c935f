package channel

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/providers"
)

// TestOwnMessagesShareTheBreaker checks that a provider which fails is left alone by messages of the shop's own, too.
func TestOwnMessagesShareTheBreaker(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	provider := providers.NewReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	cfg := DefaultSMSConfig()
	cfg.Enabled, cfg.Provider, cfg.Failures, cfg.Pause, cfg.Timeout = true, SMSGeneric, 1, time.Hour, time.Second
	cfg.HTTP.URL, cfg.HTTP.Body = provider.URL, `{{json .To}}`
	templates, err := NewTemplates("", English, "UTC")
	require.NoError(t, err)
	transport, err := newSMS(cfg, templates, slog.New(slog.DiscardHandler), time.Now)
	require.NoError(t, err)
	s, err := newSender(cfg.SenderConfig, transport, everybody, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	body := []byte(`{"to":"+8613800138000","text":"a"}`)
	_, off := s.SendBody(t.Context(), "sms:1", body).PutOffFor()
	require.True(t, off, "the failure opened the breaker: no attempt is counted")
	require.Positive(t, s.Pause())
	_, held := s.SendBody(t.Context(), "sms:2", body).HeldFor()
	require.True(t, held)
	require.Len(t, provider.Calls(), 1)
	require.True(t, s.SendBody(t.Context(), "sms:3", []byte(`{"to":"+86138"}`)).IsPermanent())
}

func TestAliyunSendsApprovedOwnTemplates(t *testing.T) {
	t.Parallel()
	p := &aliyun{cfg: AliyunConfig{OwnTemplates: map[string]string{"coupon": "SMS_1"}}}
	require.True(t, p.approves("coupon"))
	require.False(t, p.approves(""))
	require.True(t, p.Send(t.Context(), SMS{To: "+8613800138000", Text: "a"}).IsPermanent())
}
