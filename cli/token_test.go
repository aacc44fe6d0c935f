package cli

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/gateway/auth"
	"sluice/internal/testkit/shop"
)

// A token of another system names topics and subscriptions, and has no role.
func TestTokensOfOtherSystems(t *testing.T) {
	t.Parallel()
	env := []string{"SLUICE_AUTH__SECRET=" + shop.Secret}
	got := sluice(t, env, "token", "--publish", "points,sms", "--subscribe", "stock", "--ttl", "2h", "--json")
	require.Equal(t, exitSuccess, got.code, got.err)
	var shown struct{ Token, User, Role string }
	require.NoError(t, json.Unmarshal([]byte(got.out), &shown))
	require.Equal(t, "system", shown.User)
	require.Empty(t, shown.Role)
	a, err := auth.NewAuthenticator(auth.Config{Mode: auth.ModeJWT, Secret: shop.Secret}, nil, time.Now)
	require.NoError(t, err)
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+shown.Token)
	rights, err := a.Work(r)
	require.NoError(t, err)
	require.Equal(t, auth.Rights{System: "system", Publish: []string{"points", "sms"}, Subscribe: []string{"stock"}},
		rights)

	for want, more := range map[string][]string{
		"has no role":     {"--publish", "points", "--admin"},
		"no role":         {"--subscribe", "stock", "--role", "viewer"},
		`got "*"`:         {"--publish", "*", "--user", "logistics"},
		"ttl must be":     {"--publish", "points", "--ttl", "1ms"},
		`"user" not set`:  {"--publish", ""},
		`got "a.default"`: {"--subscribe", "a.default"},
	} {
		got := sluice(t, env, append([]string{"token"}, more...)...)
		require.NotEqual(t, exitSuccess, got.code, more)
		require.Contains(t, got.err, want)
	}
}
