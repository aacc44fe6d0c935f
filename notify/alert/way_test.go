package alert_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/notify/alert"
)

func TestAnAddressGetsAlertsOfItsOwn(t *testing.T) {
	t.Parallel()
	server, clock := quietMailServer(t), testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a := alertsTo(t, server, providers.NewReceiver(t, providers.Status(http.StatusOK)), clock)
	for range 3 {
		require.True(t, a.AddTo("ann@shop.example", "delayed messages of topic coupons", 2))
	}
	require.True(t, a.AddTo("bob@shop.example", "delayed messages of topic points", 1))
	a.StepAddresses(t.Context())
	mails := strings.Join(server.Received(), "")
	require.Len(t, server.Received(), 2)
	require.Regexp(t, `(?s)RCPT TO:<ann@shop\.example>.*     6  delayed messages of topic coupons`, mails)
	require.Contains(t, mails, "RCPT TO:<bob@shop.example>")
	require.NotContains(t, mails, "ops@shop.example")

	require.True(t, a.AddTo("ann@shop.example", "delayed messages of topic coupons", 5))
	clock.Advance(interval - time.Second)
	a.StepAddresses(t.Context())
	require.Len(t, server.Received(), 2, "within the interval")
	clock.Advance(time.Second)
	a.StepAddresses(t.Context())
	require.Len(t, server.Received(), 3)
	require.Contains(t, server.Received()[2], "     5  delayed messages of topic coupons")
	require.False(t, a.Remembers("bob@shop.example"), "sent, and the interval is over")
	clock.Advance(interval)
	a.StepAddresses(t.Context())
	require.False(t, a.Remembers("ann@shop.example"))
	require.EqualValues(t, 3, a.Sent("address", "delivered"))
}

func TestARefusedAddressIsGivenUpAndHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	server, clock := quietMailServer(t), testkit.NewClock(time.UnixMilli(1_700_000_000_000))
	a := alertsTo(t, server, providers.NewReceiver(t, providers.Status(http.StatusOK)), clock)
	tries := 0
	server.Answer(func(step, line string) string {
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
	a.StepAddresses(t.Context())
	require.Len(t, server.Received(), 1)
	require.Contains(t, server.Received()[0], "well@")
	clock.Advance(alert.RetryAfter)
	a.StepAddresses(t.Context())
	require.Len(t, server.Received(), 2)
	require.Contains(t, server.Received()[1], "busy@")
	clock.Advance(interval)
	a.StepAddresses(t.Context())
	require.Equal(t, 1, tries)
	for _, name := range []string{"gone", "busy", "well"} {
		require.False(t, a.Remembers(name+"@shop.example"), name)
	}
}

func TestAddressesAreBounded(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.UnixMilli(0))
	a := alertsTo(t, quietMailServer(t), providers.NewReceiver(t, providers.Status(http.StatusOK)), clock)
	for i := range alert.MaxAddresses {
		require.True(t, a.AddTo(fmt.Sprintf("a%d@shop.example", i), "x", 1))
	}
	require.False(t, a.AddTo("late@shop.example", "x", 1))
	require.True(t, a.AddTo("a7@shop.example", "x", 1), "it has room already")
	mute := open(t, place{now: clock.Now})
	require.False(t, mute.AddTo("ann@shop.example", "x", 1), "there is no mail server")
}
