package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

const testSecret = "0123456789abcdef0123456789abcdef"

var testNow = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

func fixedClock() time.Time { return testNow }

func secretConfig() Config { return Config{Mode: ModeJWT, Secret: testSecret} }

func newAuth(t testing.TB, cfg Config, trusted ...netip.Prefix) *Authenticator {
	t.Helper()
	a, err := NewAuthenticator(cfg, trusted, fixedClock)
	require.NoError(t, err)
	return a
}

func bearerRequest(token string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/orders", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func sign(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims, header ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	for i := 0; i+1 < len(header); i += 2 {
		token.Header[header[i]] = header[i+1]
	}
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

func validClaims() jwt.MapClaims {
	return jwt.MapClaims{"sub": "ann", "exp": testNow.Add(time.Hour).Unix()}
}

// writePublicKey stores the key as PEM and returns the file and its bytes.
func writePublicKey(t testing.TB, public any) (string, []byte) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	data := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	file := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	return file, data
}

func TestUserByEachAlgorithm(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for _, test := range []struct {
		method          jwt.SigningMethod
		private, public any
	}{
		{jwt.SigningMethodRS256, rsaKey, &rsaKey.PublicKey},
		{jwt.SigningMethodES256, p256, &p256.PublicKey},
		{jwt.SigningMethodES384, p384, &p384.PublicKey},
		{jwt.SigningMethodEdDSA, edPrivate, edPublic},
	} {
		t.Run(test.method.Alg(), func(t *testing.T) {
			t.Parallel()
			file, data := writePublicKey(t, test.public)
			a := newAuth(t, Config{Mode: ModeJWT, PublicKeyFile: file})
			user, err := a.User(bearerRequest(sign(t, test.method, test.private, validClaims())))
			require.NoError(t, err)
			require.Equal(t, "ann", user)

			// Algorithm confusion: anybody can use the bytes of the public key as an HMAC key.
			for _, secret := range [][]byte{data, []byte(strings.TrimSpace(string(data)))} {
				_, err = a.User(bearerRequest(sign(t, jwt.SigningMethodHS256, secret, validClaims())))
				require.ErrorIs(t, err, ErrUnauthorized)
			}
			claims := validClaims()
			claims["role"] = "admin"
			_, err = a.Admin(bearerRequest(sign(t, jwt.SigningMethodHS256, data, claims)))
			require.ErrorIs(t, err, ErrUnauthorized)
			admin, err := a.Admin(bearerRequest(sign(t, test.method, test.private, claims)))
			require.NoError(t, err)
			require.Equal(t, Actor{Name: "ann", Role: "admin"}, admin)
		})
	}
}

func TestUserRefusesOtherAlgorithms(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	a := newAuth(t, secretConfig())
	good := sign(t, jwt.SigningMethodHS256, []byte(testSecret), validClaims())
	head, rest, _ := strings.Cut(good, ".")
	payload, _, _ := strings.Cut(rest, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	noneUpper := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"nOnE"}`))
	for name, token := range map[string]string{
		"none":            none + "." + payload + ".",
		"none mixed case": noneUpper + "." + payload + ".",
		"none, signed":    none + "." + rest,
		"no signature":    head + "." + payload + ".",
		"HS384":           sign(t, jwt.SigningMethodHS384, []byte(testSecret), validClaims()),
		"HS512":           sign(t, jwt.SigningMethodHS512, []byte(testSecret), validClaims()),
		"RS256":           sign(t, jwt.SigningMethodRS256, rsaKey, validClaims()),
		"other secret":    sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), validClaims()),
		"empty secret":    sign(t, jwt.SigningMethodHS256, []byte{}, validClaims()),
		"critical header": sign(t, jwt.SigningMethodHS256, []byte(testSecret), validClaims(), "crit", "b64"),
		"changed payload": head + "." +
			base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"bob","exp":99999999999}`)) +
			good[strings.LastIndex(good, "."):],
		"two segments":     head + "." + payload,
		"four segments":    good + ".x",
		"padded base64":    good + "=",
		"garbage":          "a.b.c",
		"dots":             "..",
		"huge":             strings.Repeat("a", maxTokenBytes+1),
		"repeated sub":     rawToken(t, `{"sub":"ann","sub":"bob","exp":99999999999}`),
		"sub by case only": rawToken(t, `{"SUB":"ann","exp":99999999999}`),
		"null claims":      rawToken(t, `null`),
	} {
		user, err := a.User(bearerRequest(token))
		require.ErrorIs(t, err, ErrUnauthorized, name)
		require.Empty(t, user, name)
		require.NotContains(t, err.Error(), token, "%s: the text must not repeat the token", name)
		refusal, ok := errors.AsType[*RefusalError](err)
		require.True(t, ok, name)
		require.True(t, refusal.Sent, name)
	}
}

// rawToken signs any payload, even one that the library would not produce.
func rawToken(t testing.TB, payload string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(payload))
	signature, err := jwt.SigningMethodHS256.Sign(text, []byte(testSecret))
	require.NoError(t, err)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func TestUserChecksClaims(t *testing.T) {
	t.Parallel()
	cfg := secretConfig()
	cfg.Issuer, cfg.Audience = "shop", "sluice"
	a := newAuth(t, cfg)
	for _, test := range []struct {
		name string
		edit func(jwt.MapClaims)
		want error
	}{
		{"good", func(jwt.MapClaims) {}, nil},
		{"audience in a list", func(c jwt.MapClaims) { c["aud"] = []string{"x", "sluice"} }, nil},
		{"within the skew", func(c jwt.MapClaims) { c["exp"] = testNow.Add(-2 * time.Second).Unix() }, nil},
		{"128 bytes", func(c jwt.MapClaims) { c["sub"] = strings.Repeat("a", 128) }, nil},
		{"Chinese", func(c jwt.MapClaims) { c["sub"] = "王小明" }, nil},
		{"expired", func(c jwt.MapClaims) { c["exp"] = testNow.Add(-time.Minute).Unix() }, errExpired},
		{"no exp", func(c jwt.MapClaims) { delete(c, "exp") }, errMissingClaim},
		{"exp as text", func(c jwt.MapClaims) { c["exp"] = "tomorrow" }, errMalformed},
		{"not yet", func(c jwt.MapClaims) { c["nbf"] = testNow.Add(time.Minute).Unix() }, errNotYet},
		{"other issuer", func(c jwt.MapClaims) { c["iss"] = "evil" }, errIssuer},
		{"no issuer", func(c jwt.MapClaims) { delete(c, "iss") }, errMissingClaim},
		{"other audience", func(c jwt.MapClaims) { c["aud"] = "x" }, errIssuer},
		{"no sub", func(c jwt.MapClaims) { delete(c, "sub") }, errSubject},
		{"empty sub", func(c jwt.MapClaims) { c["sub"] = "" }, errSubject},
		{"long sub", func(c jwt.MapClaims) { c["sub"] = strings.Repeat("a", 129) }, errSubject},
		{"newline", func(c jwt.MapClaims) { c["sub"] = "a\nb" }, errSubject},
		{"NUL", func(c jwt.MapClaims) { c["sub"] = "a\x00" }, errSubject},
		{"trailing space", func(c jwt.MapClaims) { c["sub"] = "ann " }, errSubject},
		{"sub as number", func(c jwt.MapClaims) { c["sub"] = 7 }, errMalformed},
	} {
		claims := validClaims()
		claims["iss"], claims["aud"] = "shop", "sluice"
		test.edit(claims)
		_, err := a.User(bearerRequest(sign(t, jwt.SigningMethodHS256, []byte(testSecret), claims)))
		if test.want == nil {
			require.NoError(t, err, test.name)
			continue
		}
		require.ErrorIs(t, err, test.want, test.name)
	}
}

func TestAuthorizationHeader(t *testing.T) {
	t.Parallel()
	a := newAuth(t, secretConfig())
	token := sign(t, jwt.SigningMethodHS256, []byte(testSecret), validClaims())
	for _, test := range []struct {
		name   string
		values []string
		ok     bool
	}{
		{"bearer", []string{"Bearer " + token}, true},
		{"lower case", []string{"bearer " + token}, true},
		{"none", nil, false},
		{"empty", []string{""}, false},
		{"only the scheme", []string{"Bearer "}, false},
		{"basic", []string{"Basic " + token}, false},
		{"twice", []string{"Bearer " + token, "Bearer " + token}, false},
		{"two tokens", []string{"Bearer " + token + " " + token}, false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if test.values != nil {
			r.Header["Authorization"] = test.values
		}
		_, err := a.User(r)
		require.Equal(t, test.ok, err == nil, test.name)
	}
	_, err := a.User(httptest.NewRequest(http.MethodGet, "/", nil))
	refusal, ok := errors.AsType[*RefusalError](err)
	require.True(t, ok)
	require.False(t, refusal.Sent)
}

func TestHeaderMode(t *testing.T) {
	t.Parallel()
	cfg := Config{Mode: ModeHeader, Header: "x-user", Secret: testSecret}
	a := newAuth(t, cfg, netip.MustParsePrefix("10.0.0.0/8"))
	for _, test := range []struct {
		name, peer string
		values     []string
		want       string
	}{
		{"trusted", "10.1.2.3:999", []string{"ann"}, "ann"},
		{"trusted, mapped", "[::ffff:10.1.2.3]:999", []string{"ann"}, "ann"},
		{"stranger", "192.0.2.1:999", []string{"ann"}, ""},
		{"no peer", "@", []string{"ann"}, ""},
		{"no header", "10.1.2.3:999", nil, ""},
		{"twice", "10.1.2.3:999", []string{"ann", "bob"}, ""},
		{"control", "10.1.2.3:999", []string{"a\tb"}, ""},
		{"not UTF-8", "10.1.2.3:999", []string{"\xff"}, ""},
	} {
		r := bearerRequest(sign(t, jwt.SigningMethodHS256, []byte(testSecret), validClaims()))
		r.RemoteAddr = test.peer
		r.Header["X-User"] = test.values
		user, err := a.User(r)
		require.Equal(t, test.want, user, test.name)
		require.Equal(t, test.want == "", err != nil, test.name)
	}
	_, err := NewAuthenticator(cfg, nil, fixedClock)
	require.ErrorContains(t, err, "gateway.trusted_proxies")
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	cfg := secretConfig()
	cfg.Issuer, cfg.Audience = "shop", "sluice"
	a := newAuth(t, cfg)
	admin, err := Mint(cfg, "root", true, time.Minute, testNow)
	require.NoError(t, err)
	actor, err := a.Admin(bearerRequest(admin))
	require.NoError(t, err)
	require.Equal(t, Actor{Name: "root", Role: "admin"}, actor)

	user, err := Mint(cfg, "ann", false, time.Minute, testNow)
	require.NoError(t, err)
	_, err = a.Admin(bearerRequest(user))
	require.ErrorIs(t, err, errNotAdmin)
	name, err := a.User(bearerRequest(user))
	require.NoError(t, err)
	require.Equal(t, "ann", name)

	keyless := newAuth(t, Config{Mode: ModeHeader, Header: "X-User"}, netip.MustParsePrefix("10.0.0.0/8"))
	_, err = keyless.Admin(bearerRequest(admin))
	require.ErrorIs(t, err, ErrUnauthorized)
}

// TestSecretAndPublicKeyTogether checks that the key verifies only shoppers and the secret only administrators.
func TestSecretAndPublicKeyTogether(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	file, _ := writePublicKey(t, public)
	a := newAuth(t, Config{Mode: ModeJWT, Secret: testSecret, PublicKeyFile: file})
	claims := validClaims()
	claims["role"] = "admin"
	byKey := bearerRequest(sign(t, jwt.SigningMethodEdDSA, private, claims))
	bySecret := bearerRequest(sign(t, jwt.SigningMethodHS256, []byte(testSecret), claims))
	_, err = a.User(byKey)
	require.NoError(t, err)
	_, err = a.User(bySecret)
	require.ErrorIs(t, err, errSignature)
	_, err = a.Admin(bySecret)
	require.NoError(t, err)
	_, err = a.Admin(byKey)
	require.ErrorIs(t, err, errSignature)
}

func TestPublicKeyFileIsChecked(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err == nil { // newer versions of Go refuse to make weak keys
		file, _ := writePublicKey(t, &small.PublicKey)
		_, err = NewAuthenticator(Config{Mode: ModeJWT, PublicKeyFile: file}, nil, fixedClock)
		require.ErrorContains(t, err, "2048")
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"private.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"broken.pem":  pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}),
		"text.pem":    []byte("hello"),
	} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, data, 0o600))
		_, err := NewAuthenticator(Config{Mode: ModeJWT, PublicKeyFile: file}, nil, fixedClock)
		require.ErrorContains(t, err, "auth.public_key_file "+file, name)
	}
	_, err = NewAuthenticator(Config{Mode: ModeJWT, PublicKeyFile: filepath.Join(dir, "absent.pem")}, nil, fixedClock)
	require.ErrorIs(t, err, os.ErrNotExist)
}
