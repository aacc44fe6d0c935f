package channel

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// journalled makes the alerts of one process. Processes share the journal in Redis.
func journalled(t *testing.T, rdb redis.UniversalClient, server *smtpServer, shop *receiver) *Alerts {
	t.Helper()
	cfg := DefaultAlertConfig()
	cfg.Emails, cfg.URL, cfg.Secrets = []string{"ops@shop.example"}, shop.URL, []string{newSecret}
	cfg.AllowPrivate = true
	mail := server.config()
	require.NoError(t, errors.Join(mail.check(20*time.Second), cfg.check(mail)))
	a, err := NewAlerts(AlertParts{Config: cfg, Mailer: mailerFor(t, mail), Log: slog.New(slog.DiscardHandler),
		Now: time.Now, Redis: rdb, Journal: "sluice:alerts"})
	require.NoError(t, err)
	return a
}

func runAlerts(t *testing.T, a *Alerts) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		a.Run(ctx)
		close(ended)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// TestARestartFindsWhatOperatorsWereNotTold checks that deaths within an alert's interval outlive their process: one
// that is stopped, and one that is killed.
func TestARestartFindsWhatOperatorsWereNotTold(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"stopped": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := testkit.RedisClient(t, testkit.Embedded(t).Addr())
			server, shop := newSMTPServer(t, func(*smtpServer) {}), newReceiver(t, status(http.StatusOK))
			before := journalled(t, rdb, server, shop)
			stop := runAlerts(t, before)
			before.Add("notifications of channel sms", 1)
			require.Eventually(t, func() bool { return len(server.received()) == 1 && len(shop.calls()) == 1 },
				eventually, time.Millisecond)
			before.Add("notifications of channel sms", 50_000)
			require.True(t, before.AddTo("ann@shop.example", "delayed messages of topic points", 3))
			require.Eventually(t, func() bool { return len(server.received()) == 2 }, eventually, time.Millisecond)
			require.True(t, before.AddTo("ann@shop.example", "delayed messages of topic points", 7))
			field := before.journal.field(entry{wayID(wayAddress, "ann@shop.example"),
				"delayed messages of topic points"})
			require.Eventually(t, func() bool { return rdb.HGet(t.Context(), "sluice:alerts", field).Val() == "7" },
				eventually, time.Millisecond)
			if killed {
				left := rdb.HGetAll(t.Context(), "sluice:alerts").Val()
				stop()
				left[before.journal.alive()] = "1" // long ago
				require.NoError(t, rdb.HSet(t.Context(), "sluice:alerts", left).Err())
			}
			stop()

			runAlerts(t, journalled(t, rdb, server, shop))
			require.Eventually(t, func() bool { return len(server.received()) == 4 && len(shop.calls()) == 2 },
				eventually, time.Millisecond)
			mails := strings.Join(server.received()[2:], "\n")
			require.Contains(t, mails, " 50000  notifications of channel sms")
			require.Contains(t, mails, "     7  delayed messages of topic points")
			require.Contains(t, shop.calls()[1].body, `"notifications of channel sms":50000`)
			require.Eventually(t, func() bool { return rdb.HLen(t.Context(), "sluice:alerts").Val() == 0 }, eventually,
				time.Millisecond, "what was told is forgotten")
		})
	}
}

// TestAlertsOfAProcessThatLivesAreItsOwn checks that nobody else sends them.
func TestAlertsOfAProcessThatLivesAreItsOwn(t *testing.T) {
	t.Parallel()
	rdb := testkit.RedisClient(t, testkit.Embedded(t).Addr())
	count := func(string, string, int64) { t.Error("adopted") }
	one := newAlertJournal(rdb, "sluice:alerts", slog.New(slog.DiscardHandler), count)
	one.add("email:ops@shop.example", "x", 3)
	require.NoError(t, one.write(t.Context(), true))
	other := newAlertJournal(rdb, "sluice:alerts", slog.New(slog.DiscardHandler), count)
	require.NoError(t, other.adopt(t.Context()))
	require.Equal(t, "3", rdb.HGet(t.Context(), "sluice:alerts", one.field(entry{"email:ops@shop.example", "x"})).Val())
}
