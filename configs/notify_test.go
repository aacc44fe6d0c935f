package configs

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNotificationSecretsAreMasked(t *testing.T) {
	t.Parallel()
	const key = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	l, err := Load(Options{Env: withSecret(
		"SLUICE_NOTIFY__EMAIL__PASSWORD=hidden-1", "SLUICE_NOTIFY__SMS__TWILIO__TOKEN=hidden-2",
		"SLUICE_NOTIFY__SMS__ALIYUN__ACCESS_KEY_SECRET=hidden-3",
		"SLUICE_NOTIFY__SMS__HTTP__URL=http://gate/?token=hidden-4", "SLUICE_NOTIFY__SMS__HTTP__BODY=hidden-5",
		"SLUICE_NOTIFY__WEBHOOK__URL=http://shop/?token=hidden-6",
		"SLUICE_NOTIFY__WEBHOOK__SECRETS="+key,
		"SLUICE_NOTIFY__ALERT__URL=http://ops/?token=hidden-7", "SLUICE_NOTIFY__ALERT__SECRETS="+key)})
	require.NoError(t, err)
	for _, asJSON := range []bool{true, false} {
		var out bytes.Buffer
		require.NoError(t, l.Print(&out, asJSON))
		require.NotContains(t, out.String(), "hidden-")
		require.NotContains(t, out.String(), key)
	}
	_, err = Load(Options{Env: withSecret("SLUICE_NOTIFY__WEBHOOK__ENABLED=true")})
	require.ErrorContains(t, err, "notify.webhook.url")
	require.ErrorContains(t, err, "notify.webhook.secrets")
}
