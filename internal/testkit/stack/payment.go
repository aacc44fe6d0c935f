package stack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/gateway"
	"sluice/notify/webhook"
	"sluice/order/payment"
)

// PaymentSecrets returns two secrets of the payment provider, the newer one first.
func PaymentSecrets() []string {
	return []string{"whsec_" + base64.StdEncoding.EncodeToString([]byte("the newer secret of the provider")),
		"whsec_" + base64.StdEncoding.EncodeToString([]byte("the older secret of the provider"))}
}

// Unpaid makes a stack whose orders must be paid within an hour.
func Unpaid(c *Setup) {
	c.Payments = payment.Config{Timeout: time.Hour, Secret: PaymentSecrets()}
}

// openPayments opens the provider's side of the gateway, when there is one.
func (s *Stack) openPayments() *gateway.Payments {
	if !s.payments.On() {
		return nil
	}
	verifier, err := webhook.NewVerifier(s.SaleCache.Now, s.payments.Secret...)
	require.NoError(s.T, err)
	payer := payment.NewPayer(payment.Parts{
		DB: s.DB, Lines: s.Lines, Sales: s.SaleStore, Lease: 10 * time.Second,
		Channels: []string{"stream"}, OnCommit: func() {}, Log: QuietLog(), Now: s.SaleCache.Now,
		Metrics: s.Registry,
	})
	return &gateway.Payments{Verifier: verifier, Payer: payer}
}

// Signed makes the headers of a callback.
func Signed(secret, id string, at time.Time, body string) []string {
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "." + body))
	return []string{"webhook-id", id, "webhook-timestamp", stamp, "webhook-signature",
		"v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}
}

// Provider sends the provider's signed callback for an order.
func (s *Stack) Provider(path, body string) Answer {
	s.T.Helper()
	return s.Do("", http.MethodPost, path+"/payment", body, Signed(PaymentSecrets()[0], "msg", time.Now(), body)...)
}
