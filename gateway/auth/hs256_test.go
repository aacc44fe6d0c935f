package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestQuickTokensAreThoseOfTheLibrary checks that quickHS256 accepts no token that the library refuses.
func TestQuickTokensAreThoseOfTheLibrary(t *testing.T) {
	t.Parallel()
	cfg := secretConfig()
	encode := base64.RawURLEncoding.EncodeToString
	sign := func(header, claims string) string {
		text := encode([]byte(header)) + "." + encode([]byte(claims))
		mac := hmac.New(sha256.New, []byte(cfg.Secret))
		mac.Write([]byte(text))
		return text + "." + encode(mac.Sum(nil))
	}
	auth, err := NewAuthenticator(cfg, nil, time.Now)
	require.NoError(t, err)
	library := *auth.users
	library.quick = nil
	exp := time.Now().Add(time.Hour).Unix()
	const plain = `{"alg":"HS256","typ":"JWT"}`
	taken := 0
	for _, token := range []string{
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d}`, exp)),
		sign(`{"typ":"JWT","alg":"HS256"}`, fmt.Sprintf(`{"sub":"ann","exp":%d,"role":"viewer","x":[1]}`, exp)),
		sign(`{"alg":"HS256"}`, fmt.Sprintf(`{"sub":"ann","exp":%d,"nbf":0,"jti":"a"}`, exp)),
		sign(`{"alg":"none"}`, fmt.Sprintf(`{"sub":"ann","exp":%d}`, exp)),
		sign(`{"alg":"HS256","crit":["b64"]}`, fmt.Sprintf(`{"sub":"ann","exp":%d}`, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d,"jti":5}`, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d,"role":7}`, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d,"sub":"bob"}`, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","SUB":"bob","exp":%d}`, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d,"nbf":9223372036854775807}`, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d,"nbf":%d}`, exp, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d,"iat":9223372036854775807}`, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d,"aud":["a","b"]}`, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d}`, exp-7200)),
		sign(plain, `{"sub":"ann","exp":9223372036854775807}`), sign(plain, `{"sub":"ann"}`),
		sign(plain, fmt.Sprintf(`{"sub":" ann","exp":%d}`, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d} x`, exp)), sign(plain, fmt.Sprintf(`{"exp":%d}`, exp)),
		sign(plain, fmt.Sprintf(`{"sub":"ann","exp":%d}`, exp)) + "A", "..", "a.b", "",
	} {
		id, ok := auth.users.quick.accept(token)
		if !ok {
			continue
		}
		taken++
		want, err := library.verify(token)
		require.NoError(t, err, token)
		require.Equal(t, want.user, id.user)
		require.Equal(t, want.role, id.role)
		require.True(t, want.expires.Equal(id.expires))
	}
	require.GreaterOrEqual(t, taken, 3, "plain tokens go the quick way")
}
