package auth

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func TestRememberedTokenStillExpires(t *testing.T) {
	t.Parallel()
	now := testNow
	a, err := NewAuthenticator(secretConfig(), nil, func() time.Time { return now })
	require.NoError(t, err)
	r := bearerRequest(sign(t, jwt.SigningMethodHS256, []byte(testSecret), validClaims()))
	for range 2 {
		_, err = a.User(r)
		require.NoError(t, err)
	}
	now = now.Add(time.Hour + clockSkew)
	_, err = a.User(r)
	require.ErrorIs(t, err, errExpired)
}

func TestTokenCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newTokenCache()
	for i := range cacheShards*cacheShardTokens + 5000 {
		c.put(fmt.Sprint(i), identity{user: "u"})
	}
	held := 0
	for i := range c.shards {
		require.LessOrEqual(t, len(c.shards[i].known), cacheShardTokens)
		held += len(c.shards[i].known)
	}
	require.Positive(t, held)
	long := strings.Repeat("x", cacheTokenBytes+1)
	c.put(long, identity{})
	_, ok := c.get(long)
	require.False(t, ok)
}

func TestUserConcurrently(t *testing.T) {
	t.Parallel()
	a := newAuth(t, secretConfig())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				want := fmt.Sprintf("u%d", (i+j)%50)
				token, err := Mint(secretConfig(), want, false, time.Hour, testNow)
				if err == nil {
					var got string
					if got, err = a.User(bearerRequest(token)); err == nil && got != want {
						err = fmt.Errorf("got %s, want %s", got, want)
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestMintRefusesWhatWouldNotWork(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg   Config
		user  string
		admin bool
		ttl   time.Duration
		want  string
	}{
		"no secret": {Config{Mode: ModeJWT, PublicKeyFile: "k.pem"}, "ann", true, time.Hour, "auth.secret"},
		"users come by key": {Config{Mode: ModeJWT, Secret: testSecret, PublicKeyFile: "k.pem"}, "ann", false,
			time.Hour, "public_key_file"},
		"users come by header": {Config{Mode: ModeHeader, Header: "X-User", Secret: testSecret}, "ann", false,
			time.Hour, "header"},
		"no user": {secretConfig(), "", false, time.Hour, "user must be"},
		"no time": {secretConfig(), "ann", false, 0, "ttl"},
	} {
		_, err := Mint(test.cfg, test.user, test.admin, test.ttl, testNow)
		require.ErrorContains(t, err, test.want, name)
	}
}

func FuzzTokenHeader(f *testing.F) {
	good, err := Mint(secretConfig(), "ann", false, time.Hour, testNow)
	require.NoError(f, err)
	for _, seed := range []string{"", "Bearer ", "Bearer a.b.c", "Bearer " + good, "bearer ..",
		"Bearer eyJhbGciOiJub25lIn0.e30."} {
		f.Add(seed)
	}
	a := newAuth(f, secretConfig())
	f.Fuzz(func(t *testing.T, value string) {
		r := &http.Request{Header: http.Header{"Authorization": {value}}}
		user, err := a.User(r)
		if err == nil {
			require.Equal(t, "ann", user, "nobody else's token was signed")
			return
		}
		require.ErrorIs(t, err, ErrUnauthorized)
	})
}

// FuzzTokenClaims checks that every accepted user is valid for the database and the logs.
func FuzzTokenClaims(f *testing.F) {
	for _, seed := range []string{`{"sub":"ann","exp":99999999999}`, `{}`, `null`, `[]`, `{"exp":1e400}`,
		`{"exp":-1e300,"sub":"a"}`, `{"aud":[[]]}`} {
		f.Add(seed)
	}
	a := newAuth(f, secretConfig())
	f.Fuzz(func(t *testing.T, payload string) {
		user, err := a.User(bearerRequest(rawToken(t, payload)))
		if err == nil {
			require.True(t, ValidUser(user))
			return
		}
		require.ErrorIs(t, err, ErrUnauthorized)
	})
}

func BenchmarkUser(b *testing.B) {
	token, err := Mint(secretConfig(), "ann", false, time.Hour, testNow)
	require.NoError(b, err)
	a, r := newAuth(b, secretConfig()), bearerRequest(token)
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = a.User(r)
		}
	})
	b.Run("first time", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var claims tokenClaims
			_, _ = a.users.parser.ParseWithClaims(token, &claims, a.users.key)
		}
	})
	b.Run("refused", func(b *testing.B) {
		b.ReportAllocs()
		forged := bearerRequest(token[:len(token)-4] + "AAAA")
		for b.Loop() {
			_, _ = a.User(forged)
		}
	})
}

// BenchmarkVerify measures verifying a new token of a shopper.
func BenchmarkVerify(b *testing.B) {
	a, err := NewAuthenticator(secretConfig(), nil, time.Now)
	require.NoError(b, err)
	token, err := Mint(secretConfig(), strings.Repeat("u", 20), false, time.Hour, time.Now())
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.users.verify(token); err != nil {
			b.Fatal(err)
		}
	}
}
