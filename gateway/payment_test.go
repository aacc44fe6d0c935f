package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway/ratelimit"
	"sluice/inventory"
	"sluice/notify/webhook"
	"sluice/order"
)

// Two secrets of the provider, the newer one first.
func paymentSecrets() []string {
	return []string{"whsec_" + base64.StdEncoding.EncodeToString([]byte("the newer secret of the provider")),
		"whsec_" + base64.StdEncoding.EncodeToString([]byte("the older secret of the provider"))}
}

func unpaid(c *setup) {
	c.payments = order.PaymentConfig{Timeout: time.Hour, Secret: paymentSecrets()}
}

// payDesk is the provider's side of the gateway, when there is one.
func (s *stack) payDesk() *Payments {
	if !s.payments.On() {
		return nil
	}
	verifier, err := webhook.NewVerifier(s.saleCache.Now, s.payments.Secret...)
	require.NoError(s.t, err)
	payer := order.NewPayer(order.PayerParts{
		DB: s.db, Lines: s.lines, Sales: s.saleStore, Lease: 10 * time.Second,
		Channels: []string{"stream"}, OnCommit: func() {}, Log: quietLog(), Now: s.saleCache.Now,
		Metrics: s.reg,
	})
	return &Payments{Verifier: verifier, Payer: payer}
}

// signed are the headers of a callback.
func signed(secret, id string, at time.Time, body string) []string {
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "." + body))
	return []string{"webhook-id", id, "webhook-timestamp", stamp, "webhook-signature",
		"v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}
}

// provider sends a signed callback for an order.
func (s *stack) provider(path, body string) got {
	s.t.Helper()
	return s.do("", http.MethodPost, path+"/payment", body, signed(paymentSecrets()[0], "msg", time.Now(), body)...)
}

func TestPaymentCallback(t *testing.T) {
	t.Parallel()
	s := newStack(t, unpaid)
	s.sell("phone", 10)
	path := s.place("ann", "phone")
	const body = `{"payment_id":"pay-1","amount_cents":9900,"currency":"CNY",` +
		`"paid_at":"2026-11-11T00:00:00+08:00","customer":{"is":"ignored"}}`
	early := s.refused(api.CodeNotConfirmed, s.provider(path, body))
	require.Positive(t, early.retryAfter())
	s.work()
	g := s.until("ann", path, "confirmed")
	payBy, err := time.Parse(api.TimeFormat, g.text("pay_by"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour), payBy, time.Minute)

	s.refused(api.CodeNotFound, s.provider("/v1/sales/phone/orders/missing", body))
	s.refused(api.CodeNotFound, s.provider(strings.Replace(path, "phone", "other", 1), body))
	s.refused(api.CodeInvalidRequest, s.provider(path,
		`{"payment_id":"pay-1","amount_cents":9900,"currency":"CNY","sale_id":"other"}`))

	follow := s.follow("ann", path, "")
	require.Empty(t, follow.order("confirmed")["refund"])
	less := s.provider(path, `{"payment_id":"less","amount_cents":1,"currency":"CNY"}`)
	require.Equal(t, http.StatusOK, less.status, less.raw)
	require.Equal(t, "confirmed", less.text("status"))
	require.Equal(t, "required", less.text("refund"))
	require.Equal(t, "required", follow.order("confirmed:required")["refund"], "pushed")
	require.Equal(t, "required", s.until("ann", path, "confirmed").text("refund"), "polled")
	for range 2 {
		g = s.provider(path, body)
		require.Equal(t, http.StatusOK, g.status, g.raw)
		require.Equal(t, "paid", g.text("status"))
		require.Empty(t, g.text("refund"))
	}
	follow.order("paid:required") // the wrong amount is still to be returned
	follow.ends()
	require.NotEmpty(t, s.until("ann", path, "paid").text("paid_at"))
	s.refused(api.CodeNotCancellable, s.do("ann", http.MethodDelete, path, ""))
	again := s.provider(path, `{"payment_id":"pay-2","amount_cents":9900,"currency":"CNY"}`)
	require.Equal(t, "required", again.text("refund"), again.raw)
	require.Equal(t, "paid", again.text("status"))
	other := s.place("bob", "phone")
	s.until("bob", other, "confirmed")
	s.refused(api.CodeConflict, s.provider(other, body))
	s.clean()
}

func TestPaymentPayload(t *testing.T) {
	t.Parallel()
	good, bad := DecodePayment(
		[]byte(
			`{"order_id":"o","sale_id":"s","payment_id":"p","amount_cents":0,"currency":"EUR",`+
				`"paid_at":"2026-01-02T03:04:05Z"}`), "s", "o")
	require.Empty(t, bad)
	require.Equal(t, order.Payment{ID: "p", Currency: "EUR", PaidAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, good)
	for body, field := range map[string]string{
		``: "body", `[]`: "body", `{}`: "payment_id", `{"payment_id":"a","payment_id":"b"}`: "payment_id",
		`{"payment_id":"` + strings.Repeat("x", 129) + `","amount_cents":1,"currency":"CNY"}`: "payment_id",
		`{"payment_id":"ü","amount_cents":1,"currency":"CNY"}`:                                "payment_id",
		`{"payment_id":"a","amount_cents":1.0,"currency":"CNY"}`:                              "amount_cents",
		`{"payment_id":"a","amount_cents":-1,"currency":"CNY"}`:                               "amount_cents",
		`{"payment_id":"a","amount_cents":9223372036854775808,"currency":"CNY"}`:              "amount_cents",
		`{"payment_id":"a","amount_cents":"1","currency":"CNY"}`:                              "amount_cents",
		`{"payment_id":"a","amount_cents":1,"currency":"cny"}`:                                "currency",
		`{"payment_id":"a","amount_cents":1,"currency":"CNY","paid_at":7}`:                    "paid_at",
		`{"payment_id":"a","amount_cents":1,"currency":"CNY","order_id":"s"}`:                 "order_id",
		`{"payment_id":"a","amount_cents":1,"currency":"CNY","order_id":7}`:                   "order_id",
		`{"payment_id":"a","amount_cents":1,"currency":"CNY","sale_id":"o"}`:                  "sale_id",
	} {
		_, bad := DecodePayment([]byte(body), "s", "o")
		require.NotEmpty(t, bad, body)
		require.Equal(t, field, bad[0].Field, body)
	}
}

// Whatever is wrong with a signature, the callback changes nothing and its sender learns nothing.
func TestForgedPaymentsAreRefused(t *testing.T) {
	t.Parallel()
	s := newStack(t, unpaid)
	s.sell("phone", 10)
	s.work()
	path := s.place("ann", "phone")
	s.until("ann", path, "confirmed")
	const body = `{"payment_id":"pay-1","amount_cents":9900,"currency":"CNY"}`
	now, newer := time.Now(), paymentSecrets()[0]
	moved := signed(newer, "msg", now, body)
	moved[1] = "other"
	for name, bad := range map[string][]string{
		"another body": signed(newer, "msg", now, body+" "),
		"too old":      signed(newer, "msg", now.Add(-6*time.Minute), body),
		"too new":      signed(newer, "msg", now.Add(6*time.Minute), body),
		"another secret": signed("whsec_"+base64.StdEncoding.EncodeToString([]byte("a secret that nobody gave to us!")),
			"msg", now, body),
		"another id":   moved,
		"nothing":      nil,
		"no signature": signed(newer, "msg", now, body)[:4],
	} {
		t.Log(name)
		g := s.refused(api.CodeUnauthorized, s.do("", http.MethodPost, path+"/payment", body, bad...))
		require.Equal(t,
			"Send the callback signed: webhook-id, webhook-timestamp of the last five minutes, webhook-signature.",
			g.text("detail"))
	}
	require.Equal(t, "confirmed", s.until("ann", path, "confirmed").text("status"))
	g := s.do("", http.MethodPost, path+"/payment", body, signed(paymentSecrets()[1], "msg", now, body)...)
	require.Equal(t, "paid", g.text("status"), "the older secret is good too: %s", g.raw)
}

func TestUnsignedPaymentsAreLimited(t *testing.T) {
	t.Parallel()
	s := newStack(t, unpaid, func(c *setup) { c.limits = ratelimit.Config{PerIPRPS: 0.001, PerIPBurst: 2} })
	s.sell("phone", 10)
	for range 2 {
		s.refused(api.CodeUnauthorized, s.do("", http.MethodPost, "/v1/sales/phone/orders/any/payment", "{}"))
	}
	s.refused(api.CodeRateLimited, s.do("", http.MethodPost, "/v1/sales/phone/orders/any/payment", "{}"))
}

func TestWithoutPaymentsThereIsNoDeadline(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 10)
	s.work()
	path := s.place("ann", "phone")
	require.Empty(t, s.until("ann", path, "confirmed").text("pay_by"))
	s.refused(api.CodeNotFound, s.provider(path, "{}"))
	follow := s.follow("ann", path, "")
	follow.order("confirmed")
	follow.ends()
}

// A shopper whose order is confirmed before the first look is told so at once; one who knows waits
// for the payment, also without saying what it has seen.
func TestLongPollWaitsForThePayment(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"?wait=20s", "?wait=20s&seen=confirmed"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, unpaid)
			s.sell("phone", 10)
			s.work()
			path := s.place("ann", "phone")
			require.Eventually(t, func() bool { return s.view("phone").Served == 1 }, patience, time.Millisecond)
			started := time.Now()
			require.Equal(t, "confirmed", s.get("ann", path+"?wait=20s").text("status"))
			require.Equal(t, "confirmed", s.get("ann", path+"?wait=20s&seen=queued").text("status"))
			require.Less(t, time.Since(started), 10*time.Second, "confirmed is news to both")
			require.Contains(t, s.refused(api.CodeInvalidRequest, s.get("ann", path+"?wait=20s&seen=sold")).
				raw, `"field":"seen"`)
			started = time.Now()
			require.Equal(t, "confirmed", s.get("ann", path+"?wait=300ms").text("status"), "after the wait, unchanged")
			require.GreaterOrEqual(t, time.Since(started), 300*time.Millisecond)

			answered := make(chan got, 1)
			token := s.token("ann", false)
			go func() {
				g, _ := fetch(t.Context(), s.client, http.MethodGet, "http://"+s.addr+path+query, token, "")
				answered <- g
			}()
			require.Eventually(t, func() bool { return s.waiters() == 1 }, patience, time.Millisecond)
			require.Equal(t, http.StatusOK, s.provider(path,
				`{"payment_id":"p","amount_cents":9900,"currency":"CNY"}`).status)
			require.Equal(t, "paid", (<-answered).text("status"))
			started = time.Now()
			require.Equal(t, "paid", s.get("ann", path+"?wait=20s&seen=paid").
				text("status"), "nothing more is to be expected")
			require.Equal(t, "paid", s.get("ann", path+"?wait=20s").text("status"))
			require.Less(t, time.Since(started), 10*time.Second)
		})
	}
}

// Each status is delivered once at once, whatever is forgotten.
func TestDeliveredCacheIsBounded(t *testing.T) {
	t.Parallel()
	delivered := newDeliveredCache()
	due := func(id string) order.View { return order.View{ID: id, Status: order.Confirmed, PayBy: time.Unix(1, 0)} }
	for i := range maxDelivered + maxDelivered/2 {
		delivered.add(due(fmt.Sprint(i)))
	}
	require.True(t, delivered.has(due(fmt.Sprint(maxDelivered/2))))
	refund := due(fmt.Sprint(maxDelivered / 2))
	refund.Refund = true
	require.False(t, delivered.has(refund), "that money must go back is news")
	for i := range maxDelivered {
		delivered.add(due(fmt.Sprint("more", i)))
	}
	require.False(t, delivered.has(due("1")))
	require.LessOrEqual(t, len(delivered.young)+len(delivered.old), 2*maxDelivered)
	delivered.add(order.View{ID: "queued", Status: order.Queued})
	require.False(t, delivered.has(order.View{ID: "queued", Status: order.Queued}))
}

func TestLocale(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"": "zh-CN", "*": "zh-CN", "de": "zh-CN", "en": "en", "en-US,en;q=0.9": "en", "de, en;q=0.2, zh;q=0.1": "en",
		"zh-TW, en;q=0.5": "zh-CN",
		"en;q=0":          "zh-CN", "EN-gb": "en", ";;,,=": "zh-CN",
	} {
		require.Equal(t, want, api.LocaleOf(accept, "zh-CN"), accept)
	}
	s := newStack(t)
	s.sell("phone", 10, func(n *inventory.NewSale) { n.PerUserLimit = 3 })
	locale := func(g got) string {
		require.Equal(t, http.StatusAccepted, g.status, g.raw)
		tickets, _, err := s.lines.Of("phone").Lookup(t.Context(), []string{g.text("order_id")})
		require.NoError(t, err)
		return tickets[g.text("order_id")].Locale
	}
	require.Equal(t, "en", locale(s.order("ann", "phone", `{"locale":"en"}`)))
	require.Equal(t, "en", locale(s.order("ann", "phone", "", "Accept-Language", "en-GB")))
	require.Equal(t, "zh-CN", locale(s.order("ann", "phone", `{"locale":"zh-CN"}`, "Accept-Language", "en-GB")))
	require.Contains(t, s.refused(api.CodeInvalidRequest, s.order("bob", "phone", `{"locale":"fr"}`)).
		raw, `"field":"locale"`)
	s.work()
	require.Eventually(t, func() bool {
		var n int64
		require.NoError(t, s.db.Read.Table("orders").Where("locale = 'en'").Count(&n).Error)
		return n == 2
	}, patience, 10*time.Millisecond)
	require.NotEqual(t, Fingerprint(api.OrderRequest{Quantity: 1}),
		Fingerprint(api.OrderRequest{Quantity: 1, Locale: "en"}))
}
