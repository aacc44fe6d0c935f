package notify

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// probe is a sender made of a function.
type probe struct {
	tag    string
	does   func(ctx context.Context, m Message) Result
	shut   atomic.Bool
	newest bool // it tells how things stand
}

func (p *probe) name() string { return p.tag }

func (p *probe) latest() bool { return p.newest }

func (p *probe) reaches(to Recipient) string {
	if to.Email == "" {
		return "no e-mail address was given"
	}
	return ""
}

func (p *probe) send(ctx context.Context, m Message, _ Recipient) Result { return p.does(ctx, m) }

func (p *probe) close() { p.shut.Store(true) }

func everybody(_ context.Context, ids []string) (map[string]Recipient, error) {
	found := make(map[string]Recipient, len(ids))
	for _, id := range ids {
		found[id] = ann()
	}
	return found, nil
}

func quickOutlet() OutletConfig {
	cfg := DefaultOutletConfig()
	cfg.Timeout = time.Second
	return cfg
}

func openOutlet(t *testing.T, cfg OutletConfig, p *probe, lookup Recipients) *Outlet {
	t.Helper()
	o, err := newOutlet(cfg, p, lookup, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, o.close())
		require.True(t, p.shut.Load())
	})
	return o
}

func letters(n int) []Message {
	list := make([]Message, n)
	for i := range list {
		list[i] = Message{OrderID: "order-" + string(rune('a'+i)), Event: EventPaid}
	}
	return list
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestOutletResults(t *testing.T) {
	t.Parallel()
	p := &probe{tag: "email", does: func(_ context.Context, m Message) Result {
		if m.OrderID == "order-c" {
			panic("the mail of " + annMail)
		}
		return Delivered()
	}}
	o := openOutlet(t, quickOutlet(), p, func(context.Context, []string) (map[string]Recipient, error) {
		return map[string]Recipient{"order-a": ann(), "order-b": {Phone: annPhone}, "order-c": ann()}, nil
	})
	require.Equal(t, "email", o.Name())
	require.Equal(t, []Result{Delivered(), Skipped("no e-mail address was given"), Retry("sending panicked"), Skipped("the order is unknown")},
		o.Deliver(within(t, time.Minute), letters(4)))
	away := openOutlet(t, quickOutlet(), &probe{tag: "email"}, func(context.Context, []string) (map[string]Recipient, error) { return nil, errors.New("away") })
	require.Equal(t, []Result{Hold(lookupPause, "the order could not be looked up")}, away.Deliver(within(t, time.Minute), letters(1)))
}

func TestOutletSendsManyAtOnceAndNoMore(t *testing.T) {
	t.Parallel()
	cfg := quickOutlet()
	cfg.Workers = 3
	var now, most atomic.Int64
	full := make(chan struct{})
	p := &probe{tag: "email", does: func(ctx context.Context, _ Message) Result {
		n := now.Add(1)
		defer now.Add(-1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		if n == 3 {
			close(full)
		}
		select {
		case <-full:
		case <-ctx.Done():
		}
		return Delivered()
	}}
	o := openOutlet(t, cfg, p, everybody)
	for _, r := range o.Deliver(within(t, time.Minute), letters(3)) {
		require.Equal(t, Delivered(), r)
	}
	require.EqualValues(t, 3, most.Load())
}

// What the time of a batch does not suffice for is not begun, and so counts no attempt.
func TestOutletKeepsToItsRateAndTime(t *testing.T) {
	t.Parallel()
	cfg := quickOutlet()
	cfg.Rate = 1
	var sent atomic.Int64
	p := &probe{tag: "email", does: func(context.Context, Message) Result { sent.Add(1); return Delivered() }}
	o := openOutlet(t, cfg, p, everybody)
	count := func() (delivered, held int) {
		for _, r := range o.Deliver(within(t, cfg.Timeout+500*time.Millisecond), letters(10)) {
			switch r {
			case Delivered():
				delivered++
			case Hold(0, "its turn did not come in time"):
				held++
			}
		}
		return delivered, held
	}
	delivered, held := count()
	require.Equal(t, []int{1, 9}, []int{delivered, held})
	o.SetRate(0)
	delivered, held = count()
	require.Equal(t, []int{10, 0}, []int{delivered, held})
	require.EqualValues(t, 11, sent.Load())
}

func TestOutletWaitsWhileItsReceiverIsDown(t *testing.T) {
	t.Parallel()
	cfg := quickOutlet()
	cfg.Workers, cfg.Failures, cfg.Pause = 1, 2, 300*time.Millisecond
	var tries atomic.Int64
	var well atomic.Bool
	p := &probe{tag: "email", does: func(context.Context, Message) Result {
		tries.Add(1)
		if well.Load() {
			return Delivered()
		}
		return Unreachable("connection refused")
	}}
	o := openOutlet(t, cfg, p, everybody)
	require.Zero(t, o.Pause())
	waiting := Hold(cfg.Pause, "the receiver fails, the channel waits")
	require.Equal(t, []Result{Unreachable("connection refused"), Unreachable("connection refused"), waiting, waiting, waiting},
		o.Deliver(within(t, time.Minute), letters(5)))
	require.Equal(t, []Result{waiting}, o.Deliver(within(t, time.Minute), letters(1)))
	require.EqualValues(t, 2, tries.Load(), "nobody calls while the channel waits")
	require.LessOrEqual(t, o.Pause(), cfg.Pause)
	well.Store(true)
	require.Eventually(t, func() bool { return o.Deliver(within(t, time.Minute), letters(1))[0] == Delivered() }, eventually, 10*time.Millisecond)
	require.Equal(t, Delivered(), o.Deliver(within(t, time.Minute), letters(2))[1])
	require.Zero(t, o.Pause())
}

// pausing is a recorder whose receiver is known to be down.
type pausing struct{ recorder }

func (*pausing) Pause() time.Duration { return time.Hour }

func TestTheBacklogOfAPausingChannelIsLeftAlone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.insert(t, "email", 5)
		b.insert(t, "sms", 5)
		waiting, live := &pausing{recorder{name: "email", answer: accept}}, &recorder{name: "sms", answer: accept}
		run(t, b.relay(waiting, live))
		b.waitFor(t, StateDelivered, 5)
		for _, row := range b.rows(t, StatePending) {
			require.Zero(t, row.Attempts)
			require.Zero(t, row.Lease)
		}
		require.Empty(t, waiting.messages())
	})
}

// Refusals of single messages say that the receiver is well.
func TestOutletDoesNotWaitForRefusals(t *testing.T) {
	t.Parallel()
	cfg := quickOutlet()
	cfg.Workers, cfg.Failures = 1, 2
	answers := []Result{Unreachable("x"), Permanent("x"), Unreachable("x"), Retry("x"), Unreachable("x"), RetryAfter(time.Second, "x"), Unreachable("x"), Delivered()}
	var n atomic.Int64
	p := &probe{tag: "email", does: func(context.Context, Message) Result { return answers[n.Add(1)-1] }}
	require.Equal(t, answers, openOutlet(t, cfg, p, everybody).Deliver(within(t, time.Minute), letters(len(answers))))
}

// A dead mail server and a hanging webhook hold no other channel, lose no attempts while they are down, and deliver when they are back.
func TestADeadReceiverHoldsNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.cfg.Retries, b.cfg.RetryUnit = 1, time.Millisecond
		mail := quickOutlet()
		mail.Workers, mail.Failures, mail.Pause = 1, 1, 50*time.Millisecond
		var well atomic.Bool
		dead := &probe{tag: "email", does: func(context.Context, Message) Result {
			if well.Load() {
				return Delivered()
			}
			return Unreachable("connection refused")
		}}
		o := openOutlet(t, mail, dead, everybody)
		hanging := newBlocked("webhook", Delivered())
		live := &recorder{name: "sms", answer: accept}
		for _, channel := range []string{"email", "webhook", "sms"} {
			b.insert(t, channel, 20)
		}
		r := b.relay(o, hanging, live)
		run(t, r)
		b.waitFor(t, StateDelivered, 20)
		<-hanging.entered
		require.Len(t, live.messages(), 20)
		require.Eventually(t, func() bool { return counted(r, "email", countHeld) >= 19 }, eventually, time.Millisecond)
		for _, row := range b.rows(t, StatePending) {
			if row.Channel == "email" {
				require.LessOrEqual(t, row.Attempts, 1)
			}
		}
		well.Store(true)
		require.Eventually(t, func() bool {
			b.clock.Advance(mail.Pause)
			return counted(r, "email", countDelivered) == 20
		}, eventually, 5*time.Millisecond)
		close(hanging.release)
		b.waitFor(t, StateDelivered, 60)
		require.Empty(t, b.rows(t, StateDead))
	})
}

func TestSkippedRowsAreDoneWith(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.insert(t, "email", 3)
		p := &probe{tag: "email"}
		o := openOutlet(t, quickOutlet(), p, func(context.Context, []string) (map[string]Recipient, error) {
			return map[string]Recipient{"order-0000": {}, "order-0001": {}, "order-0002": {}}, nil
		})
		r := b.relay(o)
		run(t, r)
		for _, row := range b.waitFor(t, StateDelivered, 3) {
			require.Equal(t, "no e-mail address was given", row.LastError)
			require.NotZero(t, row.DeliveredAt)
		}
		require.Eventually(t, func() bool { return counted(r, "email", countSkipped) == 3 }, eventually, time.Millisecond)
		require.Zero(t, counted(r, "email", countDelivered))
	})
}

// Whatever fails, no address, number or token is in the log or in last_error. The servers repeat what they were sent.
func TestNothingPersonalIsLoggedOrStored(t *testing.T) {
	t.Parallel()
	var log sharedLog
	server := newSMTPServer(t, func(s *smtpServer) { s.starttls, s.login = true, "shop\x00smtp-password" })
	server.answer(func(step, line string) string {
		if step == "rcpt" {
			return "550 5.1.1 no such user: " + line
		}
		return ""
	})
	shop := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, r.URL.String()+annPhone+annMail, http.StatusBadRequest)
	})
	b := newBench(t)
	b.log, b.cfg.Retries = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), 0
	b.cfg.Email, b.cfg.Webhook = server.config(), WebhookConfig{OutletConfig: quickOutlet(), URL: shop.URL + "/?token=tok-secret", Secrets: []string{newSecret}, AllowPrivate: true}
	b.cfg.Webhook.Enabled, b.cfg.SMS.Enabled, b.cfg.SMS.Provider = true, true, SMSGeneric
	b.cfg.SMS.HTTP = SMSHTTPConfig{URL: "http://127.0.0.1:1/{{query .To}}?token=tok-secret", Method: http.MethodPost, Headers: map[string]string{"Authorization": "tok-secret"}}
	b.cfg.SMS.Failures = 1000
	require.NoError(t, b.cfg.Validate())
	channels, err := OpenChannels(b.cfg, testkit.RedisClient(t, testkit.Embedded(t).Addr()), everybody, b.log, time.Now, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, channels.Close()) })
	for _, ch := range channels.All() {
		b.insert(t, ch.Name(), 2)
	}
	run(t, b.relay(channels.All()...))
	text := log.String()
	for _, row := range b.waitFor(t, StateDead, 6) {
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

func TestChannelsFollowTheConfiguration(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	open := func() *Channels {
		c, err := OpenChannels(cfg, testkit.RedisClient(t, testkit.Embedded(t).Addr()), everybody, slog.New(slog.DiscardHandler), time.Now, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		return c
	}
	require.Len(t, open().All(), 1)
	cfg.SMS.Enabled = true
	c := open()
	require.Equal(t, "sms", c.All()[1].Name())
	require.NoError(t, cfg.Validate())
	cfg.SMS.Rate = 5
	c.SetRates(cfg)
	require.EqualValues(t, 5, c.outlets[0].limit.Limit())
	cfg.Email.Enabled, cfg.Email.Addr = true, "nowhere"
	_, err := OpenChannels(cfg, nil, everybody, slog.New(slog.DiscardHandler), time.Now, nil)
	require.ErrorContains(t, err, "notify.email.addr")
}

// sharedLog is a log that many goroutines write.
type sharedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *sharedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *sharedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestHeldMessagesLoseNoAttempt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.cfg.Retries = 0
		b.insert(t, "email", 1)
		answer := Hold(7*time.Second, "the receiver fails, the channel waits")
		ch := &recorder{name: "email", answer: func(Message) Result { return answer }}
		r := b.relay(ch)
		for range 3 {
			_, err := r.step(t.Context(), r.lanes[0])
			require.NoError(t, err)
			row := b.rows(t, StatePending)[0]
			require.Zero(t, row.Attempts)
			require.Zero(t, row.NextAt, "it keeps its place")
			require.Equal(t, answer.err, row.LastError)
			require.Equal(t, 7*time.Second, r.lanes[0].pause(), "the channel rests instead")
			require.Zero(t, r.lanes[0].pause())
		}
		answer = Delivered()
		_, err := r.step(t.Context(), r.lanes[0])
		require.NoError(t, err)
		require.Equal(t, 1, b.rows(t, StateDelivered)[0].Attempts)
		require.EqualValues(t, 3, counted(r, "email", countHeld))
	})
}
