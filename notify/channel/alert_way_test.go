package channel

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

func TestAnAddressGetsAlertsOfItsOwn(t *testing.T) {
	t.Parallel()
	server, clock := newSMTPServer(t, func(*smtpServer) {}), testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a := alertsTo(t, server, newReceiver(t, status(http.StatusOK)), clock)
	for range 3 {
		require.True(t, a.AddTo("ann@shop.example", "delayed messages of topic coupons", 2))
	}
	require.True(t, a.AddTo("bob@shop.example", "delayed messages of topic points", 1))
	a.stepAddresses(t.Context())
	mails := strings.Join(server.received(), "")
	require.Len(t, server.received(), 2)
	require.Regexp(t, `(?s)RCPT TO:<ann@shop\.example>.*     6  delayed messages of topic coupons`, mails)
	require.Contains(t, mails, "RCPT TO:<bob@shop.example>")
	require.NotContains(t, mails, "ops@shop.example")

	require.True(t, a.AddTo("ann@shop.example", "delayed messages of topic coupons", 5))
	clock.Advance(a.interval - time.Second)
	a.stepAddresses(t.Context())
	require.Len(t, server.received(), 2, "within the interval")
	clock.Advance(time.Second)
	a.stepAddresses(t.Context())
	require.Len(t, server.received(), 3)
	require.Contains(t, server.received()[2], "     5  delayed messages of topic coupons")
	require.NotContains(t, a.addresses, "bob@shop.example", "sent, and the interval is over")
	clock.Advance(a.interval)
	a.stepAddresses(t.Context())
	require.Empty(t, a.addresses)
	require.EqualValues(t, 3, testutil.ToFloat64(a.sent.WithLabelValues("address", alertDelivered)))
}

func TestARefusedAddressIsGivenUpAndHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	server, clock := newSMTPServer(t, func(*smtpServer) {}), testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a := alertsTo(t, server, newReceiver(t, status(http.StatusOK)), clock)
	tries := 0
	server.answer(func(step, line string) string {
		switch {
		case step == "rcpt" && strings.Contains(line, "gone@"):
			tries++
			return "550 nobody here"
		case step == "rcpt" && strings.Contains(line, "busy@") && clock.Now().UnixMilli() == 1_700_000_000_000:
			return "451 later"
		}
		return ""
	})
	for _, name := range []string{"gone", "busy", "well"} {
		require.True(t, a.AddTo(name+"@shop.example", "x", 1))
	}
	a.stepAddresses(t.Context())
	require.Len(t, server.received(), 1)
	require.Contains(t, server.received()[0], "well@")
	clock.Advance(alertRetry)
	a.stepAddresses(t.Context())
	require.Len(t, server.received(), 2)
	require.Contains(t, server.received()[1], "busy@")
	clock.Advance(a.interval)
	a.stepAddresses(t.Context())
	require.Equal(t, 1, tries)
	require.Empty(t, a.addresses)
}

func TestAddressesAreBounded(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.UnixMilli(0))
	a := alertsTo(t, newSMTPServer(t, func(*smtpServer) {}), newReceiver(t, status(http.StatusOK)), clock)
	for i := range maxAddresses {
		require.True(t, a.AddTo(fmt.Sprintf("a%d@shop.example", i), "x", 1))
	}
	require.False(t, a.AddTo("late@shop.example", "x", 1))
	require.True(t, a.AddTo("a7@shop.example", "x", 1), "it has room already")
	mute, err := NewAlerts(AlertParts{Config: DefaultAlertConfig(), Log: slog.New(slog.DiscardHandler), Now: clock.Now})
	require.NoError(t, err)
	require.False(t, mute.AddTo("ann@shop.example", "x", 1), "there is no mail server")
}
