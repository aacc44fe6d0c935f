package channel

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/outbox"
	"sluice/notify"
)

// probe is a transport that calls a function.
type probe struct {
	tag     string
	deliver func(ctx context.Context, m notify.Message) notify.Result
	closed  atomic.Bool
	newest  bool // returned by latest
}

func (p *probe) name() string { return p.tag }

func (p *probe) latest() bool { return p.newest }

func (p *probe) reaches(to notify.Recipient) string {
	if to.Email == "" {
		return "no e-mail address was given"
	}
	return ""
}

func (p *probe) send(ctx context.Context, m notify.Message, _ notify.Recipient) notify.Result {
	return p.deliver(ctx, m)
}

func (p *probe) close() { p.closed.Store(true) }

func everybody(_ context.Context, ids []string) (map[string]notify.Recipient, error) {
	found := make(map[string]notify.Recipient, len(ids))
	for _, id := range ids {
		found[id] = ann()
	}
	return found, nil
}

func quickConfig() SenderConfig {
	cfg := DefaultSenderConfig()
	cfg.Timeout = time.Second
	return cfg
}

func openSender(t *testing.T, cfg SenderConfig, p *probe, lookup notify.Recipients) *Sender {
	t.Helper()
	o, err := newSender(cfg, p, lookup, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, o.close())
		require.True(t, p.closed.Load())
	})
	return o
}

func messages(n int) []notify.Message {
	list := make([]notify.Message, n)
	for i := range list {
		list[i] = notify.Message{OrderID: "order-" + string(rune('a'+i)), Event: notify.EventPaid}
	}
	return list
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestSenderResults(t *testing.T) {
	t.Parallel()
	p := &probe{tag: "email", deliver: func(_ context.Context, m notify.Message) notify.Result {
		if m.OrderID == "order-c" {
			panic("the mail of " + annMail)
		}
		return notify.Delivered()
	}}
	o := openSender(t, quickConfig(), p, func(context.Context, []string) (map[string]notify.Recipient, error) {
		return map[string]notify.Recipient{"order-a": ann(), "order-b": {Phone: annPhone}, "order-c": ann()}, nil
	})
	require.Equal(t, "email", o.Name())
	require.Equal(t, []notify.Result{notify.Delivered(), notify.Skipped("no e-mail address was given"),
		notify.Retry("sending panicked"), notify.Skipped("the order is unknown")},
		o.Deliver(within(t, time.Minute), messages(4)))
	away := openSender(t, quickConfig(), &probe{tag: "email"},
		func(context.Context, []string) (map[string]notify.Recipient, error) { return nil, errors.New("away") })
	require.Equal(t, []notify.Result{notify.Hold(lookUpPause, "the order could not be looked up")},
		away.Deliver(within(t, time.Minute), messages(1)))
}

func TestSenderSendsManyAtOnceAndNoMore(t *testing.T) {
	t.Parallel()
	cfg := quickConfig()
	cfg.Workers = 3
	var now, most atomic.Int64
	full := make(chan struct{})
	p := &probe{tag: "email", deliver: func(ctx context.Context, _ notify.Message) notify.Result {
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
		return notify.Delivered()
	}}
	o := openSender(t, cfg, p, everybody)
	for _, r := range o.Deliver(within(t, time.Minute), messages(3)) {
		require.Equal(t, notify.Delivered(), r)
	}
	require.EqualValues(t, 3, most.Load())
}

// TestSenderKeepsToItsRateAndTime checks that sends that would exceed the batch's time do not begin and count no
// attempt.
func TestSenderKeepsToItsRateAndTime(t *testing.T) {
	t.Parallel()
	cfg := quickConfig()
	cfg.Rate = 1
	var sent atomic.Int64
	p := &probe{tag: "email", deliver: func(context.Context,
		notify.Message) notify.Result {
		sent.Add(1)
		return notify.Delivered()
	}}
	o := openSender(t, cfg, p, everybody)
	count := func() (delivered, held int) {
		for _, r := range o.Deliver(within(t, cfg.Timeout+500*time.Millisecond), messages(10)) {
			switch r {
			case notify.Delivered():
				delivered++
			case notify.Hold(0, "its turn did not come in time"):
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

func TestSenderWaitsWhileItsReceiverIsDown(t *testing.T) {
	t.Parallel()
	cfg := quickConfig()
	cfg.Workers, cfg.Failures, cfg.Pause = 1, 2, 300*time.Millisecond
	var tries atomic.Int64
	var well atomic.Bool
	p := &probe{tag: "email", deliver: func(context.Context, notify.Message) notify.Result {
		tries.Add(1)
		if well.Load() {
			return notify.Delivered()
		}
		return notify.Unreachable("connection refused")
	}}
	o := openSender(t, cfg, p, everybody)
	require.Zero(t, o.Pause())
	waiting := notify.Hold(cfg.Pause, "the receiver fails, the channel waits")
	require.Equal(t, []notify.Result{notify.Unreachable("connection refused"),
		notify.PutOff(2*cfg.Pause, "connection refused"),
		waiting, waiting, waiting},
		o.Deliver(within(t, time.Minute), messages(5)))
	require.Equal(t, []notify.Result{waiting}, o.Deliver(within(t, time.Minute), messages(1)))
	require.EqualValues(t, 2, tries.Load(), "nobody calls while the channel waits")
	require.LessOrEqual(t, o.Pause(), cfg.Pause)
	well.Store(true)
	require.Eventually(t, func() bool {
		return o.Deliver(within(t, time.Minute),
			messages(1))[0] == notify.Delivered()
	},
		outbox.Patience, 10*time.Millisecond)
	require.Equal(t, notify.Delivered(), o.Deliver(within(t, time.Minute), messages(2))[1])
	require.Zero(t, o.Pause())
}

// TestSenderDoesNotWaitForRefusals checks that refusals of single messages do not pause the channel.
func TestSenderDoesNotWaitForRefusals(t *testing.T) {
	t.Parallel()
	cfg := quickConfig()
	cfg.Workers, cfg.Failures = 1, 2
	answers := []notify.Result{notify.Unreachable("x"), notify.Permanent("x"), notify.Unreachable("x"),
		notify.Retry("x"), notify.Unreachable("x"), notify.Permanent("x"),
		notify.Unreachable("x"), notify.Delivered()}
	var n atomic.Int64
	p := &probe{tag: "email",
		deliver: func(context.Context, notify.Message) notify.Result { return answers[n.Add(1)-1] }}
	require.Equal(t, answers, openSender(t, cfg, p, everybody).Deliver(within(t, time.Minute), messages(len(answers))))
}

func TestChannelsFollowTheConfiguration(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	parts := Parts{Redis: testkit.RedisClient(t, testkit.Embedded(t).Addr()), LookUp: everybody,
		Log: slog.New(slog.DiscardHandler), Now: time.Now}
	open := func() *Set {
		parts.Config = cfg
		c, err := Open(parts)
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
	require.EqualValues(t, 5, c.senders[0].limit.Limit())
	cfg.Email.Enabled, cfg.Email.Addr = true, "nowhere"
	parts.Config = cfg
	_, err := Open(parts)
	require.ErrorContains(t, err, "notify.email.addr")
}
