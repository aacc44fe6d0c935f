package gateway_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway"
	"sluice/gateway/ratelimit"
	"sluice/internal/testkit/stack"
	"sluice/inventory"
	"sluice/order/payment"
)

func TestPaymentCallback(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Unpaid)
	s.Sell("phone", 10)
	path := s.Place("ann", "phone")
	const body = `{"payment_id":"pay-1","amount_cents":9900,"currency":"CNY",` +
		`"paid_at":"2026-11-11T00:00:00+08:00","customer":{"is":"ignored"}}`
	early := s.Refused(api.CodeNotConfirmed, s.Provider(path, body))
	require.Positive(t, early.RetryAfter())
	s.Work()
	g := s.Until("ann", path, "confirmed")
	payBy, err := time.Parse(api.TimeFormat, g.Text("pay_by"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour), payBy, time.Minute)

	s.Refused(api.CodeNotFound, s.Provider("/v1/sales/phone/orders/missing", body))
	s.Refused(api.CodeNotFound, s.Provider(strings.Replace(path, "phone", "other", 1), body))
	s.Refused(api.CodeInvalidRequest, s.Provider(path,
		`{"payment_id":"pay-1","amount_cents":9900,"currency":"CNY","sale_id":"other"}`))

	follow := s.Follow("ann", path, "")
	require.Empty(t, follow.Order("confirmed")["refund"])
	less := s.Provider(path, `{"payment_id":"less","amount_cents":1,"currency":"CNY"}`)
	require.Equal(t, http.StatusOK, less.Status, less.Raw)
	require.Equal(t, "confirmed", less.Text("status"))
	require.Equal(t, "required", less.Text("refund"))
	require.Equal(t, "required", follow.Order("confirmed:required")["refund"], "pushed")
	require.Equal(t, "required", s.Until("ann", path, "confirmed").Text("refund"), "polled")
	for range 2 {
		g = s.Provider(path, body)
		require.Equal(t, http.StatusOK, g.Status, g.Raw)
		require.Equal(t, "paid", g.Text("status"))
		require.Empty(t, g.Text("refund"))
	}
	follow.Order("paid:required") // the wrong amount is still to be returned
	follow.Ends()
	require.NotEmpty(t, s.Until("ann", path, "paid").Text("paid_at"))
	s.Refused(api.CodeNotCancellable, s.Do("ann", http.MethodDelete, path, ""))
	again := s.Provider(path, `{"payment_id":"pay-2","amount_cents":9900,"currency":"CNY"}`)
	require.Equal(t, "required", again.Text("refund"), again.Raw)
	require.Equal(t, "paid", again.Text("status"))
	other := s.Place("bob", "phone")
	s.Until("bob", other, "confirmed")
	s.Refused(api.CodeConflict, s.Provider(other, body))
	s.Clean()
}

func TestPaymentPayload(t *testing.T) {
	t.Parallel()
	good, bad := gateway.DecodePayment(
		[]byte(
			`{"order_id":"o","sale_id":"s","payment_id":"p","amount_cents":0,"currency":"EUR",`+
				`"paid_at":"2026-01-02T03:04:05Z"}`), "s", "o")
	require.Empty(t, bad)
	paidAt := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	require.Equal(t, payment.Payment{ID: "p", Currency: "EUR", PaidAt: paidAt}, good)
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
		_, bad := gateway.DecodePayment([]byte(body), "s", "o")
		require.NotEmpty(t, bad, body)
		require.Equal(t, field, bad[0].Field, body)
	}
}

// Whatever is wrong with a signature, the callback changes nothing and its sender learns nothing.
func TestForgedPaymentsAreRefused(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Unpaid)
	s.Sell("phone", 10)
	s.Work()
	path := s.Place("ann", "phone")
	s.Until("ann", path, "confirmed")
	const body = `{"payment_id":"pay-1","amount_cents":9900,"currency":"CNY"}`
	now, newer := time.Now(), stack.PaymentSecrets()[0]
	moved := stack.Signed(newer, "msg", now, body)
	moved[1] = "other"
	for name, bad := range map[string][]string{
		"another body": stack.Signed(newer, "msg", now, body+" "),
		"too old":      stack.Signed(newer, "msg", now.Add(-6*time.Minute), body),
		"too new":      stack.Signed(newer, "msg", now.Add(6*time.Minute), body),
		"another secret": stack.Signed("whsec_"+base64.StdEncoding.EncodeToString(
			[]byte("a secret that nobody gave to us!")), "msg", now, body),
		"another id":   moved,
		"nothing":      nil,
		"no signature": stack.Signed(newer, "msg", now, body)[:4],
	} {
		t.Log(name)
		g := s.Refused(api.CodeUnauthorized, s.Do("", http.MethodPost, path+"/payment", body, bad...))
		require.Equal(t,
			"Send the callback signed: webhook-id, webhook-timestamp of the last five minutes, webhook-signature.",
			g.Text("detail"))
	}
	require.Equal(t, "confirmed", s.Until("ann", path, "confirmed").Text("status"))
	g := s.Do("", http.MethodPost, path+"/payment", body, stack.Signed(stack.PaymentSecrets()[1], "msg", now, body)...)
	require.Equal(t, "paid", g.Text("status"), "the older secret is good too: %s", g.Raw)
}

func TestUnsignedPaymentsAreLimited(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Unpaid, func(c *stack.Setup) { c.Limits = ratelimit.Config{PerIPRPS: 0.001, PerIPBurst: 2} })
	s.Sell("phone", 10)
	for range 2 {
		s.Refused(api.CodeUnauthorized, s.Do("", http.MethodPost, "/v1/sales/phone/orders/any/payment", "{}"))
	}
	s.Refused(api.CodeRateLimited, s.Do("", http.MethodPost, "/v1/sales/phone/orders/any/payment", "{}"))
}

func TestWithoutPaymentsThereIsNoDeadline(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10)
	s.Work()
	path := s.Place("ann", "phone")
	require.Empty(t, s.Until("ann", path, "confirmed").Text("pay_by"))
	s.Refused(api.CodeNotFound, s.Provider(path, "{}"))
	follow := s.Follow("ann", path, "")
	follow.Order("confirmed")
	follow.Ends()
}

// A shopper whose order is confirmed before the first look is told so at once; one who knows waits
// for the payment, also without saying what it has seen.
func TestLongPollWaitsForThePayment(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"?wait=20s", "?wait=20s&seen=confirmed"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			s := newWorld(t, stack.Unpaid)
			s.Sell("phone", 10)
			s.Work()
			path := s.Place("ann", "phone")
			require.Eventually(t, func() bool { return s.View("phone").Served == 1 }, stack.Patience, time.Millisecond)
			started := time.Now()
			require.Equal(t, "confirmed", s.Get("ann", path+"?wait=20s").Text("status"))
			require.Equal(t, "confirmed", s.Get("ann", path+"?wait=20s&seen=queued").Text("status"))
			require.Less(t, time.Since(started), 10*time.Second, "confirmed is news to both")
			require.Contains(t, s.Refused(api.CodeInvalidRequest, s.Get("ann", path+"?wait=20s&seen=sold")).
				Raw, `"field":"seen"`)
			started = time.Now()
			require.Equal(t, "confirmed", s.Get("ann", path+"?wait=300ms").Text("status"), "after the wait, unchanged")
			require.GreaterOrEqual(t, time.Since(started), 300*time.Millisecond)

			answered := make(chan stack.Answer, 1)
			token := s.Token("ann", false)
			go func() {
				g, _ := s.TryGet(t.Context(), token, path+query)
				answered <- g
			}()
			require.Eventually(t, func() bool { return s.Gateway.Waiting() == 1 }, stack.Patience, time.Millisecond)
			require.Equal(t, http.StatusOK, s.Provider(path,
				`{"payment_id":"p","amount_cents":9900,"currency":"CNY"}`).Status)
			require.Equal(t, "paid", (<-answered).Text("status"))
			started = time.Now()
			require.Equal(t, "paid", s.Get("ann", path+"?wait=20s&seen=paid").
				Text("status"), "nothing more is to be expected")
			require.Equal(t, "paid", s.Get("ann", path+"?wait=20s").Text("status"))
			require.Less(t, time.Since(started), 10*time.Second)
		})
	}
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
	s := newWorld(t)
	s.Sell("phone", 10, func(n *inventory.NewSale) { n.PerUserLimit = 3 })
	locale := func(g stack.Answer) string {
		require.Equal(t, http.StatusAccepted, g.Status, g.Raw)
		tickets, _, err := s.Lines.Of("phone").Lookup(t.Context(), []string{g.Text("order_id")})
		require.NoError(t, err)
		return tickets[g.Text("order_id")].Locale
	}
	require.Equal(t, "en", locale(s.Order("ann", "phone", `{"locale":"en"}`)))
	require.Equal(t, "en", locale(s.Order("ann", "phone", "", "Accept-Language", "en-GB")))
	require.Equal(t, "zh-CN", locale(s.Order("ann", "phone", `{"locale":"zh-CN"}`, "Accept-Language", "en-GB")))
	require.Contains(t, s.Refused(api.CodeInvalidRequest, s.Order("bob", "phone", `{"locale":"fr"}`)).
		Raw, `"field":"locale"`)
	s.Work()
	require.Eventually(t, func() bool {
		var n int64
		require.NoError(t, s.DB.Read.Table("orders").Where("locale = 'en'").Count(&n).Error)
		return n == 2
	}, stack.Patience, 10*time.Millisecond)
	require.NotEqual(t, gateway.Fingerprint(api.OrderRequest{Quantity: 1}),
		gateway.Fingerprint(api.OrderRequest{Quantity: 1, Locale: "en"}))
}
