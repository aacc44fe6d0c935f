package channel

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/outbox"
	"sluice/internal/testkit/providers"
	"sluice/notify"
)

// TestADeadReceiverDelaysNobody uses a dead mail server and a hanging webhook. They delay no other channel, cost no
// attempts while they are down, and deliver when they are back.
func TestADeadReceiverDelaysNobody(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Retries, b.cfg.RetryUnit = 1, time.Millisecond
		mail := quickConfig()
		mail.Workers, mail.Failures, mail.Pause = 1, 1, 50*time.Millisecond
		var well atomic.Bool
		dead := &probe{tag: "email", deliver: func(context.Context, notify.Message) notify.Result {
			if well.Load() {
				return notify.Delivered()
			}
			return notify.Unreachable("connection refused")
		}}
		o := openSender(t, mail, dead, everybody)
		hanging := outbox.NewBlocked("webhook", notify.Delivered())
		live := outbox.NewRecorder("sms", outbox.Accept)
		for _, channel := range []string{"email", "webhook", "sms"} {
			b.Insert(t, channel, 20)
		}
		r := b.relay(o, hanging, live)
		run(t, r)
		b.WaitFor(t, notify.StateDelivered, 20)
		<-hanging.Entered
		require.Len(t, live.Messages(), 20)
		require.Eventually(t, func() bool { return b.counted("email", "held") >= 19 }, outbox.Patience,
			time.Millisecond)
		for _, row := range b.Rows(t, notify.StatePending) {
			if row.Channel == "email" {
				require.LessOrEqual(t, row.Attempts, 1)
			}
		}
		well.Store(true)
		require.Eventually(t, func() bool {
			b.Clock.Advance(mail.Pause)
			return b.counted("email", "delivered") == 20
		}, outbox.Patience, 5*time.Millisecond)
		close(hanging.Release)
		b.WaitFor(t, notify.StateDelivered, 60)
		require.Empty(t, b.Rows(t, notify.StateDead))
	})
}

func TestSkippedRowsAreDoneWith(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.Insert(t, "email", 3)
		p := &probe{tag: "email"}
		o := openSender(t, quickConfig(), p, func(context.Context, []string) (map[string]notify.Recipient, error) {
			return map[string]notify.Recipient{"order-0000": {}, "order-0001": {}, "order-0002": {}}, nil
		})
		r := b.relay(o)
		run(t, r)
		for _, row := range b.WaitFor(t, notify.StateDelivered, 3) {
			require.Equal(t, "no e-mail address was given", row.LastError)
			require.NotZero(t, row.DeliveredAt)
		}
		require.Eventually(t, func() bool { return b.counted("email", "skipped") == 3 }, outbox.Patience,
			time.Millisecond)
		require.Zero(t, b.counted("email", "delivered"))
	})
}

// TestNothingPersonalIsLoggedOrStored checks that no address, number or token is in the log or in last_error. The
// servers repeat what they were sent.
func TestNothingPersonalIsLoggedOrStored(t *testing.T) {
	t.Parallel()
	var log sharedLog
	server := providers.NewMailServer(t, func(s *providers.MailServer) {
		s.StartTLS, s.Login = true, "shop\x00smtp-password"
	})
	server.Answer(func(step, line string) string {
		if step == "rcpt" {
			return "550 5.1.1 no such user: " + line
		}
		return ""
	})
	shop := providers.NewReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, r.URL.String()+annPhone+annMail, http.StatusBadRequest)
	})
	b := newBench(t)
	b.Log, b.cfg.Retries = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), 0
	b.cfg.Email, b.cfg.Webhook = mailConfig(server), WebhookConfig{SenderConfig: quickConfig(),
		URL: shop.URL + "/?token=tok-secret", Secrets: []string{newSecret}, AllowPrivate: true}
	b.cfg.Webhook.Enabled, b.cfg.SMS.Enabled, b.cfg.SMS.Provider = true, true, SMSGeneric
	b.cfg.SMS.HTTP = SMSHTTPConfig{URL: "http://127.0.0.1:1/{{query .To}}?token=tok-secret", Method: http.MethodPost,
		Headers: map[string]string{"Authorization": "tok-secret"}}
	b.cfg.SMS.Failures = 1000
	require.NoError(t, b.cfg.Validate())
	channels, err := Open(Parts{Config: b.cfg, Redis: testkit.RedisClient(t, testkit.Embedded(t).Addr()),
		LookUp: everybody, Ledger: ledgerOf(nil), Log: b.Log, Now: time.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, channels.Close()) })
	for _, ch := range channels.All() {
		b.Insert(t, ch.Name(), 2)
	}
	run(t, b.relay(channels.All()...))
	text := log.String()
	for _, row := range b.WaitFor(t, notify.StateDead, 6) {
		require.NotEmpty(t, row.LastError)
		text += row.LastError
	}
	text += log.String()
	for _, secret := range []string{"ann.secret", "13812345678", "tok-secret", "smtp-password", newSecret[6:]} {
		require.NotContains(t, text, secret)
	}
	require.Contains(t, text, "smtp: refused with 550")
	require.Contains(t, text, "http status 400")
	require.Contains(t, text, "connection refused")
}

// TestADeadNotificationAlerts checks that a dead notification reaches the operator's mailbox.
func TestADeadNotificationAlerts(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		server := providers.NewMailServer(t, func(*providers.MailServer) {})
		b.cfg.Email, b.cfg.Alert.Emails = mailConfig(server), []string{"ops@shop.example"}
		b.cfg.Email.Enabled = false
		require.NoError(t, b.cfg.Validate())
		set, err := Open(Parts{Config: b.cfg, Log: b.Log, Now: b.Clock.Now})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, set.Close()) })
		testkit.Background(t, func(ctx context.Context) error {
			set.Alerts.Run(ctx)
			return nil
		})
		b.Insert(t, "sms", 3)
		refuse := func(notify.Message) notify.Result { return notify.Permanent("no such number") }
		b.onDead = func(channel string, n int64) { set.Alerts.Add("notifications of channel "+channel, n) }
		run(t, b.relay(outbox.NewRecorder("sms", refuse)))
		b.WaitFor(t, notify.StateDead, 3)
		require.Eventually(t, func() bool { return b.counted("sms", "dead") == 3 }, outbox.Patience,
			time.Millisecond)
		require.Eventually(t, func() bool {
			b.Clock.Advance(b.cfg.Alert.Interval)
			return strings.Contains(strings.Join(server.Received(), ""), "  notifications of channel sms")
		}, outbox.Patience, 5*time.Millisecond)
	})
}

// orderStates has the status of each order, for look-ups.
type orderStates struct {
	mu     sync.Mutex
	status map[string]string
}

func (s *orderStates) set(order, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status[order] = status
}

func (s *orderStates) lookup(_ context.Context, ids []string) (map[string]notify.Recipient, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]notify.Recipient{}
	for _, id := range ids {
		to := ann()
		to.Locale, to.Status = English, s.status[id]
		found[id] = to
	}
	return found, nil
}

// TestTheMailServerIsAwayWhileAnOrderExpires checks that the shopper then gets only what is still true, in order.
func TestTheMailServerIsAwayWhileAnOrderExpires(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		server := providers.NewMailServer(t, func(*providers.MailServer) {})
		away := func(step, _ string) string {
			if step == "connect" {
				return "421 come back later"
			}
			return ""
		}
		server.Answer(away)
		orders := &orderStates{status: map[string]string{"expires": "confirmed", "stays": "confirmed"}}
		cfg := mailConfig(server)
		cfg.Failures, b.cfg.Sweep = 1000, 10*time.Millisecond
		sender, err := newSender(cfg.SenderConfig, emailFor(t, cfg), orders.lookup, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, sender.close()) })
		r := b.relay(sender)
		run(t, r)

		b.Queue(t, "email", "expires", notify.EventConfirmed)
		b.Queue(t, "email", "stays", notify.EventConfirmed)
		tried := func(event string, attempts int) func() bool {
			return func() bool {
				return slices.ContainsFunc(b.Rows(t, notify.StatePending), func(row notify.Row) bool {
					return row.OrderID == "expires" && row.Event == event && row.Attempts == attempts &&
						row.NextAt > 0 && row.Lease == 0
				})
			}
		}
		require.Eventually(t, tried(notify.EventConfirmed, 1), outbox.Patience, time.Millisecond)
		orders.set("expires", "expired")
		b.Queue(t, "email", "expires", notify.EventExpired)
		require.Eventually(t, tried(notify.EventExpired, 1), outbox.Patience, time.Millisecond,
			"it does not wait for what it has overtaken")
		overtaken := b.WaitFor(t, notify.StateOvertaken, 1)[0]
		require.Equal(t, "expires:"+notify.EventConfirmed, overtaken.OrderID+":"+overtaken.Event)
		require.Equal(t, "not sent: the order is expired by now", overtaken.LastError)
		require.Equal(t, b.Clock.Now().UnixMilli(), overtaken.DeliveredAt)
		require.EqualValues(t, 1, b.counted("email", "overtaken"))
		listed, _, err := notify.NewAdmin(b.DB.Write, b.DB.Read, b.Clock.Now, func() {}).List(t.Context(),
			notify.StateOvertaken, "email", "", 10)
		require.NoError(t, err)
		require.Equal(t, []notify.Row{overtaken}, listed)

		server.Answer(func(string, string) string { return "" })
		require.Eventually(t, func() bool {
			b.Clock.Advance(time.Second)
			return len(b.Rows(t, notify.StateDelivered)) == 2
		}, outbox.Patience, time.Millisecond)
		require.ElementsMatch(t, []string{"Order expired: Phone <X>", "Order confirmed: Phone <X>"}, server.Subjects())

		// It is paid after all: what comes later is sent, later.
		orders.set("expires", "paid")
		b.Queue(t, "email", "expires", notify.EventPaid)
		r.Wake()
		b.WaitFor(t, notify.StateDelivered, 3)
		require.Equal(t, "Payment received: Phone <X>", server.Subjects()[2])

		b.Clock.Advance(b.cfg.Keep + time.Minute)
		b.WaitFor(t, notify.StateOvertaken, 0) // it is deleted like what was delivered
	})
}

// TestARevivedMessageThatIsNoLongerTrue checks that a retried dead message does not reach shoppers when it is
// overtaken. Other systems get it.
func TestARevivedMessageThatIsNoLongerTrue(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		orders := &orderStates{status: map[string]string{"one": "cancelled"}}
		for tag, newest := range map[string]bool{"email": true, "webhook": false} {
			before := len(b.Rows(t, notify.StateDelivered))
			p := &probe{tag: tag, newest: newest,
				deliver: func(context.Context, notify.Message) notify.Result { return notify.Delivered() }}
			r := b.relay(openSender(t, quickConfig(), p, orders.lookup))
			b.Queue(t, tag, "one", notify.EventConfirmed, notify.EventCancelled)
			require.NoError(t, b.DB.Write.Exec("UPDATE outbox SET state = ? WHERE event = ? AND channel = ?",
				notify.StateDead, notify.EventConfirmed, tag).Error)
			stop := run(t, r)
			b.WaitFor(t, notify.StateDelivered, before+1)
			require.NoError(t, notify.NewAdmin(b.DB.Write, b.DB.Read, b.Clock.Now, func() {}).Retry(t.Context(), "one",
				notify.EventConfirmed, tag, nil))
			require.Eventually(t, func() bool { return b.counted(tag, "overtaken")+b.counted(tag, "delivered") == 2 },
				outbox.Patience, time.Millisecond)
			stop()
			require.EqualValues(t, map[bool]float64{true: 1, false: 0}[newest], b.counted(tag, "overtaken"), tag)
			require.EqualValues(t, map[bool]float64{true: 1, false: 2}[newest], b.counted(tag, "delivered"), tag)
		}
	})
}
