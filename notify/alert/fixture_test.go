package alert_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/notify/alert"
	"sluice/notify/channel"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

const (
	patience = 30 * time.Second
	secret   = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// interval is the least time between two alerts of open.
const interval = 10 * time.Minute

// place is where alerts of a test go, and what is around them. Zero values are left out.
type place struct {
	server  *providers.MailServer
	shop    *providers.Receiver
	emails  []string // ops@shop.example where none are given
	now     func() time.Time
	rdb     redis.UniversalClient
	journal string
}

// open returns the alerts that channels open, with a real mail server and a real receiver.
func open(t *testing.T, p place) *alert.Alerts {
	t.Helper()
	cfg := channel.DefaultConfig()
	cfg.Alert.Interval = interval
	if p.server != nil {
		cfg.Email.Addr, cfg.Email.TLS, cfg.Email.From = p.server.Addr(), channel.TLSNone, "Shop <shop@shop.example>"
		cfg.Alert.Emails = p.emails
		if len(p.emails) == 0 {
			cfg.Alert.Emails = []string{"ops@shop.example"}
		}
	}
	if p.shop != nil {
		cfg.Alert.URL, cfg.Alert.Secrets, cfg.Alert.AllowPrivate = p.shop.URL, []string{secret}, true
	}
	require.NoError(t, cfg.Validate())
	set, err := channel.Open(channel.Parts{Config: cfg, Redis: p.rdb, Log: slog.New(slog.DiscardHandler), Now: p.now,
		Journal: p.journal})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, set.Close()) })
	return set.Alerts
}

func quietMailServer(t *testing.T) *providers.MailServer {
	t.Helper()
	return providers.NewMailServer(t, func(*providers.MailServer) {})
}
