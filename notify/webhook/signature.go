// Package webhook holds what calling other people's URLs needs. It signs and verifies by Standard Webhooks, version v1.
// Its HTTP client connects to public addresses only.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed request: https://www.standardwebhooks.com.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// Tolerance is how far a signed timestamp may be from the verifier's clock, either way.
const Tolerance = 5 * time.Minute

// Errors of Verify. None of them helps to forge a better request.
var (
	ErrUnsigned     = errors.New("the request carries no webhook-id, webhook-timestamp and webhook-signature")
	ErrStale        = errors.New("the signed timestamp is more than five minutes off")
	ErrBadSignature = errors.New("no signature fits: wrong secret, or the body was changed on the way")
)

const (
	secretPrefix  = "whsec_"
	minKey        = 24
	maxKey        = 64
	maxSignatures = 16 // in one header, so that a request cannot order more work than that
)

// Signer signs requests. Safe for concurrent use.
type Signer struct{ keys [][]byte }

// NewSigner returns a Signer that signs with every secret, so that receivers may hold the old or the new one.
// A secret is base64 of 24 to 64 bytes, with or without the prefix whsec_.
func NewSigner(secrets ...string) (*Signer, error) {
	keys, err := keysOf(secrets)
	return &Signer{keys: keys}, err
}

// Sign sets the three headers. The id must stay the same when the message is sent again; at is the time of this
// attempt.
func (s *Signer) Sign(h http.Header, id string, at time.Time, body []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, len(s.keys))
	for i, key := range s.keys {
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(signatureOf(key, id, timestamp, body))
	}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, timestamp)
	h.Set(HeaderSignature, strings.Join(signatures, " "))
}

// Verifier checks the signatures of requests. Safe for concurrent use.
type Verifier struct {
	keys [][]byte
	now  func() time.Time
}

// NewVerifier returns a Verifier that accepts a signature of any of the secrets, which have the form that NewSigner
// takes.
func NewVerifier(now func() time.Time, secrets ...string) (*Verifier, error) {
	keys, err := keysOf(secrets)
	return &Verifier{keys: keys, now: now}, err
}

// Verify returns nil if the headers sign this body, else ErrUnsigned, ErrStale or ErrBadSignature. It compares in
// constant time. A request that passes can still be a repeat: webhook-id tells.
func (v *Verifier) Verify(h http.Header, body []byte) error {
	id, timestamp, signatures := h.Get(HeaderID), h.Get(HeaderTimestamp), strings.Fields(h.Get(HeaderSignature))
	if id == "" || timestamp == "" || len(signatures) == 0 {
		return ErrUnsigned
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || v.now().Sub(time.Unix(seconds, 0)).Abs() > Tolerance {
		return ErrStale
	}
	fits := false
	for _, text := range signatures[:min(len(signatures), maxSignatures)] {
		encoded, ok := strings.CutPrefix(text, "v1,")
		given, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil {
			continue
		}
		for _, key := range v.keys {
			fits = hmac.Equal(given, signatureOf(key, id, timestamp, body)) || fits
		}
	}
	if !fits {
		return ErrBadSignature
	}
	return nil
}

func signatureOf(key []byte, id, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// keysOf decodes secrets. Its error shows none of them.
func keysOf(secrets []string) ([][]byte, error) {
	if len(secrets) == 0 {
		return nil, errors.New("no webhook secret is given")
	}
	keys := make([][]byte, len(secrets))
	for i, secret := range secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
		if err != nil || len(key) < minKey || len(key) > maxKey {
			return nil, fmt.Errorf("webhook secret %d is not whsec_ and base64 of %d to %d bytes: "+
				"make one with  echo whsec_$(openssl rand -base64 32)", i+1, minKey, maxKey)
		}
		keys[i] = key
	}
	return keys, nil
}
