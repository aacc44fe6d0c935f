package webhook

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// TestSignatureIsTheSpecifications checks the test vector of the specification's own libraries.
func TestSignatureIsTheSpecifications(t *testing.T) {
	t.Parallel()
	s, err := NewSigner(oldSecret)
	require.NoError(t, err)
	h := http.Header{}
	s.Sign(h, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", h.Get(HeaderSignature))
	require.Equal(t, "1614265330", h.Get(HeaderTimestamp))
	require.Equal(t, "msg_p5jXN8AQM9LWM0D4loKWxJek", h.Get(HeaderID))
}

func TestVerify(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	rotating, err := NewSigner(newSecret, oldSecret)
	require.NoError(t, err)
	body := []byte(`{"a":1}`)
	signed := func(change func(http.Header)) http.Header {
		h := http.Header{}
		rotating.Sign(h, "id-1", now, body)
		change(h)
		return h
	}
	for name, one := range map[string]struct {
		secrets []string
		header  http.Header
		body    string
		off     time.Duration
		want    error
	}{
		"new secret":   {[]string{newSecret}, signed(func(http.Header) {}), `{"a":1}`, 0, nil},
		"old secret":   {[]string{oldSecret}, signed(func(http.Header) {}), `{"a":1}`, 0, nil},
		"both":         {[]string{oldSecret, newSecret}, signed(func(http.Header) {}), `{"a":1}`, 0, nil},
		"just in time": {[]string{newSecret}, signed(func(http.Header) {}), `{"a":1}`, Tolerance, nil},
		"late": {[]string{newSecret}, signed(func(http.Header) {}), `{"a":1}`, Tolerance + time.Second,
			ErrStale},
		"early": {[]string{newSecret}, signed(func(http.Header) {}), `{"a":1}`, -Tolerance - time.Second,
			ErrStale},
		"other body": {[]string{newSecret}, signed(func(http.Header) {}), `{"a":2}`, 0, ErrBadSignature},
		"other id": {[]string{newSecret}, signed(func(h http.Header) { h.Set(HeaderID, "id-2") }), `{"a":1}`,
			0, ErrBadSignature},
		"other time": {[]string{newSecret}, signed(func(h http.Header) { h.Set(HeaderTimestamp, "1700000001") }),
			`{"a":1}`, 0, ErrBadSignature},
		"no id": {[]string{newSecret}, signed(func(h http.Header) { h.Del(HeaderID) }), `{"a":1}`, 0,
			ErrUnsigned},
		"no signature": {[]string{newSecret}, signed(func(h http.Header) { h.Del(HeaderSignature) }), `{"a":1}`, 0,
			ErrUnsigned},
		"no time": {[]string{newSecret}, signed(func(h http.Header) { h.Del(HeaderTimestamp) }), `{"a":1}`, 0,
			ErrUnsigned},
		"time of no clock": {[]string{newSecret}, signed(func(h http.Header) { h.Set(HeaderTimestamp, "now") }),
			`{"a":1}`, 0, ErrStale},
		"time overflows": {[]string{newSecret},
			signed(func(h http.Header) { h.Set(HeaderTimestamp, "-9223372036854775808") }), `{"a":1}`, 0, ErrStale},
		"other version": {[]string{newSecret},
			signed(func(h http.Header) {
				h.Set(HeaderSignature,
					strings.ReplaceAll(h.Get(HeaderSignature), "v1,", "v2,"))
			}), `{"a":1}`, 0, ErrBadSignature},
		"not base64": {[]string{newSecret}, signed(func(h http.Header) { h.Set(HeaderSignature, "v1,*") }),
			`{"a":1}`, 0, ErrBadSignature},
		"among others": {[]string{newSecret},
			signed(func(h http.Header) { h.Set(HeaderSignature, "v2,abc v1,!!! v1,AA== "+h.Get(HeaderSignature)) }),
			`{"a":1}`, 0, nil},
		"behind many": {[]string{newSecret},
			signed(func(h http.Header) {
				h.Set(HeaderSignature,
					strings.Repeat("v1,AA== ", 16)+h.Get(HeaderSignature))
			}), `{"a":1}`, 0, ErrBadSignature},
		"an unknown secret": {[]string{"whsec_" + strings.Repeat("A", 32)}, signed(func(http.Header) {}), `{"a":1}`, 0,
			ErrBadSignature},
	} {
		v, err := NewVerifier(func() time.Time { return now.Add(one.off) }, one.secrets...)
		require.NoError(t, err)
		require.Equal(t, one.want, v.Verify(one.header, []byte(one.body)), name)
	}
}

func TestSecretsAreCheckedAndNotShown(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64 at all",
		"whsec_" + strings.Repeat("AAAA", 22)} {
		_, err := NewSigner(newSecret, bad)
		require.ErrorContains(t, err, "webhook secret 2")
		if bad != "" && bad != "whsec_" {
			require.NotContains(t, err.Error(), strings.TrimPrefix(bad, "whsec_"))
		}
		_, err = NewVerifier(time.Now, bad)
		require.ErrorContains(t, err, "webhook secret 1")
	}
	_, err := NewVerifier(time.Now)
	require.ErrorContains(t, err, "no webhook secret")
}
