package alert_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/notify/alert"
)

// journalled returns the alerts of one process. Processes share the journal in Redis.
func journalled(t *testing.T, rdb redis.UniversalClient, server *providers.MailServer, shop *providers.Receiver,
) *alert.Alerts {
	t.Helper()
	return open(t, place{server: server, shop: shop, now: time.Now, rdb: rdb, journal: "sluice:alerts"})
}

func runAlerts(t *testing.T, a *alert.Alerts) (stop func()) {
	t.Helper()
	return testkit.Background(t, func(ctx context.Context) error {
		a.Run(ctx)
		return nil
	})
}

// TestARestartFindsWhatOperatorsWereNotTold checks that deaths within an alert's interval outlive their process: one
// that is stopped, and one that is killed.
func TestARestartFindsWhatOperatorsWereNotTold(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"stopped": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := testkit.RedisClient(t, testkit.Embedded(t).Addr())
			server, shop := quietMailServer(t), providers.NewReceiver(t, providers.Status(http.StatusOK))
			before := journalled(t, rdb, server, shop)
			stop := runAlerts(t, before)
			before.Add("notifications of channel sms", 1)
			require.Eventually(t, func() bool { return len(server.Received()) == 1 && len(shop.Calls()) == 1 },
				patience, time.Millisecond)
			before.Add("notifications of channel sms", 50_000)
			require.True(t, before.AddTo("ann@shop.example", "delayed messages of topic points", 3))
			require.Eventually(t, func() bool { return len(server.Received()) == 2 }, patience, time.Millisecond)
			require.True(t, before.AddTo("ann@shop.example", "delayed messages of topic points", 7))
			field := before.Field("ann@shop.example", "delayed messages of topic points")
			require.Eventually(t, func() bool { return rdb.HGet(t.Context(), "sluice:alerts", field).Val() == "7" },
				patience, time.Millisecond)
			if killed {
				left := rdb.HGetAll(t.Context(), "sluice:alerts").Val()
				stop()
				left[before.Alive()] = "1" // long ago
				require.NoError(t, rdb.HSet(t.Context(), "sluice:alerts", left).Err())
			}
			stop()

			runAlerts(t, journalled(t, rdb, server, shop))
			require.Eventually(t, func() bool { return len(server.Received()) == 4 && len(shop.Calls()) == 2 },
				patience, time.Millisecond)
			mails := strings.Join(server.Received()[2:], "\n")
			require.Contains(t, mails, " 50000  notifications of channel sms")
			require.Contains(t, mails, "     7  delayed messages of topic points")
			require.Contains(t, shop.Calls()[1].Body, `"notifications of channel sms":50000`)
			require.Eventually(t, func() bool { return rdb.HLen(t.Context(), "sluice:alerts").Val() == 0 }, patience,
				time.Millisecond, "what was told is forgotten")
		})
	}
}

// TestAlertsOfAProcessThatLivesAreItsOwn checks that nobody else sends them.
func TestAlertsOfAProcessThatLivesAreItsOwn(t *testing.T) {
	t.Parallel()
	rdb := testkit.RedisClient(t, testkit.Embedded(t).Addr())
	count := func(string, string, int64) { t.Error("adopted") }
	one := alert.NewJournal(rdb, "sluice:alerts", slog.New(slog.DiscardHandler), count)
	one.Add("email:ops@shop.example", "x", 3)
	require.NoError(t, one.Write(t.Context()))
	other := alert.NewJournal(rdb, "sluice:alerts", slog.New(slog.DiscardHandler), count)
	require.NoError(t, other.Adopt(t.Context()))
	require.Equal(t, "3", rdb.HGet(t.Context(), "sluice:alerts", one.Field("email:ops@shop.example", "x")).Val())
}
