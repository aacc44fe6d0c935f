// Package webhook signs and verifies calls by Standard Webhooks, version v1. Its HTTP client connects to public
// addresses only.
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
	maxSignatures = 16 // in one header, bounds the work that a request can cause
)

// Signer signs requests. Safe for concurrent use.
type Signer struct{ keys [][]byte }

// NewSigner returns a Signer that signs with every secret, so that receivers may use the old or the new one. A secret
// is base64 of 24 to 64 bytes, with or without the prefix whsec_.
func NewSigner(secrets ...string) (*Signer, error) {
	keys, err := decodeSecrets(secrets)
	return &Signer{keys: keys}, err
}

// Sign sets the three headers. The id must stay the same when the message is sent again; at is the time of this
// attempt.
func (s *Signer) Sign(h http.Header, id string, at time.Time, body []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, len(s.keys))
	for i, key := range s.keys {
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(computeSignature(key, id, timestamp, body))
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

// NewVerifier returns a Verifier that accepts a signature by any of the secrets, in the form of NewSigner.
func NewVerifier(now func() time.Time, secrets ...string) (*Verifier, error) {
	keys, err := decodeSecrets(secrets)
	return &Verifier{keys: keys, now: now}, err
}

// Verify returns nil if the headers sign this body, else ErrUnsigned, ErrStale or ErrBadSignature. It compares in
// constant time. A verified request can still be a repeat, with the same webhook-id.
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
			fits = hmac.Equal(given, computeSignature(key, id, timestamp, body)) || fits
		}
	}
	if !fits {
		return ErrBadSignature
	}
	return nil
}

func computeSignature(key []byte, id, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// decodeSecrets decodes secrets. Its errors do not quote them.
func decodeSecrets(secrets []string) ([][]byte, error) {
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
