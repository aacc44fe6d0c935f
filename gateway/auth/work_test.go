package auth

import (
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// Another system's token opens nothing but what it names, whether its claims are read at length or in haste.
func TestTokensOfOtherSystemsOpenNothingElse(t *testing.T) {
	t.Parallel()
	a := newAuth(t, secretConfig())
	token, err := MintWork(secretConfig(), Rights{System: "logistics", Publish: []string{"points", "sms"},
		Subscribe: []string{"stock"}}, time.Hour, testNow)
	require.NoError(t, err)
	for range 2 { // the second time it is known
		rights, err := a.Work(bearerRequest(token))
		require.NoError(t, err)
		require.Equal(t, Rights{"logistics", []string{"points", "sms"}, []string{"stock"}}, rights)
		require.True(t, rights.MayPublish("sms") && rights.MayReceive("stock"))
		require.False(t, rights.MayPublish("stock") || rights.MayReceive("sms") || rights.MayPublish("*"))
		_, err = a.User(bearerRequest(token))
		require.ErrorIs(t, err, errWorkToken)
		_, err = a.Admin(bearerRequest(token))
		require.ErrorIs(t, err, ErrForbidden)
	}
	for name, claim := range map[string]any{"publish": []string{}, "subscribe": []string{"stock"}} {
		claims := validClaims()
		claims["role"], claims[name] = "admin", claim
		text := sign(t, jwt.SigningMethodHS256, []byte(testSecret), claims)
		_, err := a.Work(bearerRequest(text))
		require.NoError(t, err)
		_, err = a.User(bearerRequest(text))
		require.ErrorIs(t, err, ErrUnauthorized)
		_, err = a.Admin(bearerRequest(text))
		require.ErrorIs(t, err, ErrForbidden, "a role beside it does not count")
	}
	for _, wrong := range []any{"points", []any{7}, map[string]any{"points": true}} {
		claims := validClaims()
		claims["publish"] = wrong
		for _, ask := range []func(*http.Request) (string, error){a.User, func(r *http.Request) (string, error) {
			rights, err := a.Work(r)
			return rights.System, err
		}} {
			_, err := ask(bearerRequest(sign(t, jwt.SigningMethodHS256, []byte(testSecret), claims)))
			require.ErrorIs(t, err, ErrUnauthorized)
		}
	}
}

func TestTheWorkListenerTakesNoOtherTokens(t *testing.T) {
	t.Parallel()
	a := newAuth(t, secretConfig())
	shopper, err := Mint(secretConfig(), "ann", false, time.Hour, testNow)
	require.NoError(t, err)
	_, err = a.Work(bearerRequest(shopper))
	require.ErrorIs(t, err, errNoRights)
	for _, role := range []Role{RoleViewer, RoleOperator, RoleAdmin} {
		operator, err := MintFor(secretConfig(), "ops", role, time.Hour, testNow)
		require.NoError(t, err)
		_, err = a.Work(bearerRequest(operator))
		require.ErrorIs(t, err, errOperators)
	}
	_, err = a.Work(bearerRequest(""))
	require.ErrorIs(t, err, ErrUnauthorized)
	_, err = a.Work(bearerRequest("a.b.c"))
	require.ErrorIs(t, err, ErrUnauthorized)
}

func TestMintWorkRefusesWhatOpensTooMuchOrNothing(t *testing.T) {
	t.Parallel()
	for want, rights := range map[string]Rights{
		"must name a topic or a subscription": {System: "a"},
		`one by one, got "*"`:                 {System: "a", Publish: []string{"points", "*"}},
		`one by one, got "points.default"`:    {System: "a", Subscribe: []string{"points.default"}},
		`one by one, got ""`:                  {System: "a", Subscribe: []string{""}},
		"user must be":                        {Publish: []string{"points"}},
	} {
		_, err := MintWork(secretConfig(), rights, time.Hour, testNow)
		require.ErrorContains(t, err, want)
	}
	many := Rights{System: "a"}
	for range 200 {
		many.Publish = append(many.Publish, "a-topic-with-a-rather-long-name")
	}
	_, err := MintWork(secretConfig(), many, time.Hour, testNow)
	require.ErrorContains(t, err, "longer than 4096 bytes")
	_, err = MintWork(Config{Mode: ModeJWT}, many, time.Hour, testNow)
	require.ErrorContains(t, err, "auth.secret")
	_, err = MintWork(secretConfig(), many, 0, testNow)
	require.ErrorContains(t, err, "ttl")
}
