package webhook_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/notify/webhook"
)

func TestRetryAfterIsReadAsReceiversWriteIt(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-5": 0, "1.5": 0, "0": 0, "42": 42 * time.Second, "86400": webhook.MaxWait,
		"4294967296": webhook.MaxWait, "99999999999999999999": webhook.MaxWait,
		now.Add(42 * time.Second).Format(http.TimeFormat): 42 * time.Second,
		now.Add(-time.Second).Format(http.TimeFormat):     0,
		now.Add(48 * time.Hour).Format(http.TimeFormat):   webhook.MaxWait,
	} {
		require.Equal(t, want, webhook.RetryAfter(text, now), text)
	}
}
