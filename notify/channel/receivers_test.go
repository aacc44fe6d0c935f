package channel

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/outbox"
	"sluice/internal/testkit/providers"
	"sluice/notify"
)

// hookChannel returns the webhook channel to a receiver.
func hookChannel(t *testing.T, shop *providers.Receiver, change func(*WebhookConfig)) *Sender {
	t.Helper()
	cfg := WebhookConfig{SenderConfig: quickConfig(), URL: shop.URL, Secrets: []string{newSecret}, AllowPrivate: true}
	cfg.Enabled, cfg.Workers, cfg.Pause = true, 1, 50*time.Millisecond
	change(&cfg)
	require.NoError(t, cfg.check(20*time.Second))
	hook, err := newWebhook(cfg, time.Now)
	require.NoError(t, err)
	s, err := newSender(cfg.SenderConfig, hook, everybody, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	return s
}

// TestNobodyWaitsForTheSlowestOfABatch checks that a few mails which the server does not answer hold no other mail.
// They are answered only after all others have arrived.
func TestNobodyWaitsForTheSlowestOfABatch(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		const mails, slow = 200, 3
		server := providers.NewMailServer(t, func(*providers.MailServer) {})
		release := make(chan struct{})
		freed := sync.OnceFunc(func() { close(release) })
		t.Cleanup(freed)
		server.Answer(func(step, line string) string {
			if step == "rcpt" && strings.Contains(line, "<slow") {
				return "wait"
			}
			return ""
		})
		server.Release = release
		cfg := mailConfig(server)
		cfg.Workers, cfg.Timeout = slow+1, 15*time.Second
		b.cfg.Batch = 10
		sender, err := newSender(cfg.SenderConfig, emailFor(t, cfg), func(_ context.Context, ids []string) (
			map[string]notify.Recipient, error) {
			found := map[string]notify.Recipient{}
			for _, id := range ids {
				to := ann()
				to.Email = id + "@example.com"
				found[id] = to
			}
			return found, nil
		}, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, sender.close()) })
		for i := range mails {
			name := fmt.Sprintf("order-%03d", i)
			if i < slow*20 && i%20 == 0 {
				name = fmt.Sprintf("slow-%03d", i)
			}
			b.Queue(t, "email", name, notify.EventConfirmed)
		}
		run(t, b.relay(sender))
		b.WaitFor(t, notify.StateDelivered, mails-slow)
		freed()
		for _, row := range b.WaitFor(t, notify.StateDelivered, mails) {
			require.Equal(t, 1, row.Attempts)
		}
		require.Len(t, server.Received(), mails, "nobody was told twice")
	})
}

// TestAReceiverThatAsksForAWaitGetsIt checks that 429 and 503 with Retry-After pause the channel and cost no attempt.
func TestAReceiverThatAsksForAWaitGetsIt(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		b := newBench(t)
		b.cfg.Retries = 0
		var asked, next atomic.Int64
		shop := providers.NewReceiver(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Store(time.Now().UnixNano())
			providers.Status(code, "Retry-After", "1")(w, r)
		}, func(w http.ResponseWriter, _ *http.Request) {
			next.CompareAndSwap(0, time.Now().UnixNano())
			w.WriteHeader(http.StatusOK)
		})
		b.Insert(t, "webhook", 20)
		run(t, b.relay(hookChannel(t, shop, func(*WebhookConfig) {})))
		for _, row := range b.WaitFor(t, notify.StateDelivered, 20) {
			require.Equal(t, 1, row.Attempts)
		}
		require.Len(t, shop.Calls(), 21, "nobody called meanwhile")
		require.GreaterOrEqual(t, time.Duration(next.Load()-asked.Load()), time.Second)
	}
}

// TestFaultsOfTheChannelEndNoMessage checks that a receiver which refuses everything for a while loses no message,
// although each may be sent but twice.
func TestFaultsOfTheChannelEndNoMessage(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusMovedPermanently, http.StatusBadGateway} {
		b := newBench(t)
		b.cfg.Retries, b.cfg.RetryUnit = 1, time.Millisecond
		var refused atomic.Int64
		shop := providers.NewReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			if refused.Add(1) <= 15 {
				w.WriteHeader(code)
			}
		})
		b.Insert(t, "webhook", 10)
		run(t, b.relay(hookChannel(t, shop, func(c *WebhookConfig) { c.Failures, c.Pause = 2, 5*time.Millisecond })))
		require.Eventually(t, func() bool {
			b.Clock.Advance(50 * time.Millisecond)
			require.Empty(t, b.Rows(t, notify.StateDead), code)
			return len(b.Rows(t, notify.StateDelivered)) == 10
		}, outbox.Patience, 5*time.Millisecond, code)
	}
}

// TestAPoisonedMessageHoldsNoChannel checks that one message which the receiver always fails on dies by itself.
func TestAPoisonedMessageHoldsNoChannel(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cfg.Retries, b.cfg.RetryUnit = 3, time.Millisecond
	shop := providers.NewReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("webhook-id"), "order-0003:") {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	b.Insert(t, "webhook", 20)
	run(t, b.relay(hookChannel(t, shop, func(c *WebhookConfig) { c.Failures, c.Pause = 1, 5*time.Millisecond })))
	b.WaitFor(t, notify.StateDelivered, 19)
}

// TestALowRateLeasesNothingInVain checks that a channel with a rate below one a second waits for its turn.
func TestALowRateLeasesNothingInVain(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		cfg := quickConfig()
		cfg.Rate = 0.05
		var leases atomic.Int64
		p := &probe{tag: "email",
			deliver: func(context.Context, notify.Message) notify.Result { return notify.Delivered() }}
		o := openSender(t, cfg, p, func(ctx context.Context, ids []string) (map[string]notify.Recipient, error) {
			leases.Add(1)
			return everybody(ctx, ids)
		})
		b.Insert(t, "email", 30)
		run(t, b.relay(o))
		b.WaitFor(t, notify.StateDelivered, 1)
		require.Never(t, func() bool { return leases.Load() > 2 }, 100*b.cfg.Poll, b.cfg.Poll)
		require.Zero(t, b.counted("email", "held"))
		o.SetRate(0)
		b.WaitFor(t, notify.StateDelivered, 30)
	})
}
