package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of Standard Webhooks.
const (
	webhookID        = "Webhook-Id"
	webhookTimestamp = "Webhook-Timestamp"
	webhookSignature = "Webhook-Signature"
)

const (
	webhookTolerance  = 5 * time.Minute // how old or new a signature may be
	webhookSignatures = 16              // of one request that are looked at
	webhookField      = 256             // bytes of the id that are accepted
)

// ErrUnsigned says that a callback was not signed by who holds the secret, or
// not lately.
var ErrUnsigned = errors.New("the signature is missing, too old or not of a known secret")

// WebhookVerifier checks callbacks signed as Standard Webhooks describes it:
// HMAC-SHA256 of id, timestamp and body under any of its keys. Safe for
// concurrent use.
type WebhookVerifier struct {
	keys [][]byte
	now  func() time.Time
}

// NewWebhookVerifier accepts signatures made with any of the keys.
func NewWebhookVerifier(keys [][]byte, now func() time.Time) *WebhookVerifier {
	return &WebhookVerifier{keys: keys, now: now}
}

// Verify returns ErrUnsigned unless the request was signed within five
// minutes of now. Its time does not tell how much of a signature is right.
func (v *WebhookVerifier) Verify(h http.Header, body []byte) error {
	id, stamp := h.Get(webhookID), h.Get(webhookTimestamp)
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || id == "" || len(id) > webhookField || strings.Contains(id, ".") {
		return ErrUnsigned
	}
	if age := v.now().Sub(time.Unix(seconds, 0)); age > webhookTolerance || age < -webhookTolerance {
		return ErrUnsigned
	}
	given := strings.Fields(h.Get(webhookSignature))
	if len(given) > webhookSignatures {
		return ErrUnsigned
	}
	good := false
	for _, key := range v.keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + stamp + "."))
		mac.Write(body)
		want := mac.Sum(nil)
		for _, one := range given {
			version, text, _ := strings.Cut(one, ",")
			got, err := base64.StdEncoding.DecodeString(text)
			good = good || version == "v1" && err == nil && hmac.Equal(got, want)
		}
	}
	if !good {
		return ErrUnsigned
	}
	return nil
}
