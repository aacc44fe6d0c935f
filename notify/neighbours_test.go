package notify

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// Each test here puts something broken beside what is well, and looks at what is well.

// panicking is a channel that throws wherever it can.
type panicking struct{ *recorder }

func (panicking) Pause() time.Duration { panic("in the lane itself") }

// A lane that panics, wherever, ends neither itself nor another.
func TestALaneThatPanicsEndsNoOther(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.insert(t, "bad", 2)
		b.insert(t, "good", 2)
		good := &recorder{name: "good", answer: accept}
		run(t, b.relay(panicking{&recorder{name: "bad", answer: accept}}, good))
		b.waitFor(t, StateDelivered, 2)
		require.Len(t, good.messages(), 2)
		require.Len(t, b.rows(t, StatePending), 2)
	})
}

// Each address of the operators is told by itself: one that is refused, or a way that panics, keeps it from no other.
func TestAnAlertReachesTheOtherAddresses(t *testing.T) {
	t.Parallel()
	server, shop := newSMTPServer(t, func(*smtpServer) {}), newReceiver(t, status(http.StatusOK))
	server.answer(func(step, line string) string {
		if step == "rcpt" && strings.Contains(line, "gone@") {
			return "550 no such user"
		}
		return ""
	})
	cfg := DefaultAlertConfig()
	cfg.Emails = []string{"ann@shop.example", "gone@shop.example", "bob@shop.example"}
	cfg.URL, cfg.Secrets, cfg.AllowPrivate = shop.URL, []string{newSecret}, true
	mail := server.config()
	mail.Enabled = false
	require.NoError(t, errors.Join(mail.check(20*time.Second), cfg.check(mail)))
	clock := testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a, err := NewAlerts(cfg, mailerFor(t, mail), slog.New(slog.DiscardHandler), clock.Now, nil)
	require.NoError(t, err)
	a.add("panics", func(context.Context, string, map[string]int64, time.Time) Result { panic("poison") })
	a.Add("x", 1)
	a.stepAll(t)
	require.Len(t, server.received(), 2)
	for _, address := range []string{"ann@shop.example", "bob@shop.example"} {
		require.Contains(t, strings.Join(server.received(), "\n"), "RCPT TO:<"+address+">")
	}
	require.Len(t, shop.calls(), 1)
	clock.Advance(alertRetry)
	a.stepAll(t)
	require.Len(t, server.received(), 2, "told is told")
}
