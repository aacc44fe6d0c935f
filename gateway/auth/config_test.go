package auth

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidateAuth(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, DefaultConfig().Validate(), "auth.secret", "a secret has no default")
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{Mode: ModeJWT, Secret: strings.Repeat("s", 32)}, ""},
		{Config{Mode: ModeJWT, PublicKeyFile: "k.pem"}, ""},
		{Config{Mode: ModeHeader, Header: "X-User"}, ""},
		{Config{}, "auth.mode must be jwt or header"},
		{Config{Mode: ModeJWT}, "auth.secret (at least 32 bytes) or auth.public_key_file"},
		{Config{Mode: ModeJWT, Secret: "hunter2"}, "at least 32 bytes, got 7"},
		{Config{Mode: ModeHeader}, "auth.header"},
		{Config{Mode: ModeHeader, Header: "X User"}, "auth.header"},
		{Config{Mode: ModeJWT, Secret: "-----BEGIN PUBLIC KEY-----\nMFkwEwYH\n-----END PUBLIC KEY-----"},
			"auth.public_key_file"},
	} {
		err := test.cfg.Validate()
		if test.want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, test.want)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
