package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/phone"
)

func TestDecodeOrderAccepts(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]OrderRequest{
		``:                          {Quantity: 1},
		`{}`:                        {Quantity: 1},
		` { } `:                     {Quantity: 1},
		`{"quantity":1000}`:         {Quantity: 1000},
		`{"quantity": 2 }`:          {Quantity: 2},
		`{"phone":"+861380013800"}`: {Quantity: 1, Phone: "+861380013800"},
		`{"email":"ann+x@mail.example.com","quantity":3,"phone":"+12345678"}`: {3, "ann+x@mail.example.com",
			"+12345678", ""},
		`{"email":"\u0061nn@example.com"}`: {Quantity: 1, Email: "ann@example.com"},
		// Carriers once gave out mailboxes whose dots RFC 5322 does not allow.
		`{"email":"foo..bar@docomo.example"}`: {Quantity: 1, Email: "foo..bar@docomo.example"},
		`{"email":".foo.@docomo.example"}`:    {Quantity: 1, Email: ".foo.@docomo.example"},
		`{"email":"anna@bücher.example"}`:     {Quantity: 1, Email: "anna@bücher.example"},
	} {
		got, errs := DecodeOrder([]byte(body))
		require.Empty(t, errs, body)
		require.Equal(t, want, got, body)
	}
}

func TestDecodeOrderReadsNumbersOfItsRegion(t *testing.T) {
	t.Parallel()
	china, err := phone.PlanOf("CN")
	require.NoError(t, err)
	for body, want := range map[string]string{`{"phone":"13800138000"}`: "+8613800138000",
		`{"phone":"+12345678"}`: "+12345678"} {
		got, errs := DecodeOrderIn(china, []byte(body))
		require.Empty(t, errs, body)
		require.Equal(t, want, got.Phone, body)
	}
	_, errs := DecodeOrderIn(china, []byte(`{"phone":"1380013800"}`))
	require.Len(t, errs, 1)
}

func TestDecodeOrderRefusesQuantity(t *testing.T) {
	t.Parallel()
	for _, quantity := range []string{
		`0`, `-1`, `-0`, `1001`, `99999`, `18446744073709551617`, strings.Repeat("9", 5000), `1.0`, `1e2`, `1E0`, `0.5`,
		`"1"`, `null`, `true`, `[1]`, `{}`, `[` + strings.Repeat(`[`, 500) + strings.Repeat(`]`, 500) + `]`,
	} {
		_, errs := DecodeOrder([]byte(`{"quantity":` + quantity + `}`))
		require.Len(t, errs, 1, quantity)
		require.Equal(t, "quantity", errs[0].Field)
		require.Contains(t, errs[0].Detail, "1 to 1000")
	}
}

func TestDecodeOrderRefusesContacts(t *testing.T) {
	t.Parallel()
	for _, email := range []string{
		``, `a`, `@`, `a@`, `@example.com`, `a@b@example.com`, `a@localhost`, `a@.com`, `a@example.`, `a b@example.com`,
		`Ann <ann@example.com>`, `<ann@example.com>`, `ann@example.com (x)`, `\"a b\"@example.com`, `a@[127.0.0.1]`,
		`a@example.com\r\nBcc: x@example.com`, `a\u0000@example.com`, `a\u202e@example.com`,
		`a@example.com,b@example.com`,
		strings.Repeat("a", 65) + `@example.com`, `a@` + strings.Repeat("b.", 130) + `com`,
	} {
		_, errs := DecodeOrder([]byte(`{"email":"` + email + `"}`))
		require.Len(t, errs, 1, email)
		require.Equal(t, "email", errs[0].Field, email)
	}
	for _, phone := range []string{``, `+`, `13800138000`, `+1234567`, `+1234567890123456`, `+0123456789`,
		`+86 13800138000`, `+8613800x38000`, `+١٢٣٤٥٦٧٨`} {
		_, errs := DecodeOrder([]byte(`{"phone":"` + phone + `"}`))
		require.Len(t, errs, 1, phone)
		require.Equal(t, "phone", errs[0].Field, phone)
	}
	_, errs := DecodeOrder([]byte(`{"quantity":0,"email":7,"phone":null}`))
	require.Len(t, errs, 3, "every wrong member is named at once")
}

func TestDecodeOrderIsStrict(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	for _, test := range []struct{ name, body, field, detail string }{
		{"repeated", `{"quantity":1,"quantity":2}`, "quantity", "twice"},
		{"repeated by escape", `{"quantity":1,"\u0071uantity":2}`, "quantity", "twice"},
		{"unknown", `{"price":1}`, "price", "not a member"},
		{"other case", `{"Quantity":1}`, "Quantity", "not a member"},
		{"unprintable name", `{"a\nb":1}`, "body", "not a member"},
		{"long name", `{"` + strings.Repeat("a", 65) + `":1}`, "body", "not a member"},
		{"trailing", `{} {}`, "body", "nothing after"},
		{"trailing garbage", `{}x`, "body", "nothing after"},
		{"cut off", `{"quantity":`, "quantity", "well-formed"},
		{"array", `[]`, "body", "object"},
		{"null", `null`, "body", "object"},
		{"text", `"x"`, "body", "object"},
		{"blank", `   `, "body", "object"},
		{"not UTF-8", "{\"email\":\"a\xff@example.com\"}", "email", "UTF-8"},
		{"lone surrogate", `{"email":"\ud800@example.com"}`, "email", "UTF-8"},
		{"byte order mark", "\ufeff{}", "body", "object"},
		{"comment", `{/**/}`, "body", "well-formed"},
		{"10,000 deep", deep, "body", "object"},
		{"10,000 deep inside", `{"email":` + deep + `}`, "email", "well-formed"},
	} {
		order, errs := DecodeOrder([]byte(test.body))
		require.Len(t, errs, 1, test.name)
		require.Equal(t, test.field, errs[0].Field, test.name)
		require.Contains(t, errs[0].Detail, test.detail, test.name)
		require.Zero(t, order, test.name)
	}
}

func TestReadBody(t *testing.T) {
	t.Parallel()
	full := strings.Repeat(" ", maxBodyBytes)
	for _, test := range []struct {
		name, body string
		header     http.Header
		chunked    bool
		want       Code
	}{
		{"none", "", nil, false, ""},
		{"none, wrong type", "", http.Header{"Content-Type": {"text/plain"}}, false, ""},
		{"undeclared", "{}", nil, false, ""},
		{"json", "{}", http.Header{"Content-Type": {"application/json"}}, false, ""},
		{"json, charset", "{}", http.Header{"Content-Type": {"Application/JSON; charset=UTF-8"}}, false, ""},
		{"exactly 16 KiB", full, nil, false, ""},
		{"16 KiB and one", full + " ", nil, false, CodeTooLarge},
		{"16 KiB and one, chunked", full + " ", nil, true, CodeTooLarge},
		{"text", "a=1", http.Header{"Content-Type": {"text/plain"}}, false, CodeUnsupportedMedia},
		{"what curl -d declares", `{}`, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, false, ""},
		{"other charset", "{}", http.Header{"Content-Type": {"application/json; charset=gbk"}}, false,
			CodeUnsupportedMedia},
		{"malformed type", "{}", http.Header{"Content-Type": {"application/json; ="}}, false, CodeUnsupportedMedia},
		{"compressed", "{}", http.Header{"Content-Encoding": {"gzip"}}, false, CodeUnsupportedMedia},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(test.body))
		if test.header != nil {
			r.Header = test.header
		}
		if test.chunked {
			r.ContentLength = -1
		}
		body, problem := ReadBody(r)
		if test.want == "" {
			require.Nil(t, problem, test.name)
			require.Equal(t, test.body, string(body), test.name)
			continue
		}
		require.NotNil(t, problem, test.name)
		require.Equal(t, test.want, problem.Code, test.name)
	}
}

func FuzzDecodeOrder(f *testing.F) {
	for _, seed := range []string{``, `{}`, `{"quantity":1,"email":"a@b.cc","phone":"+12345678"}`, `{"quantity":1e2}`,
		`[[[[`, "{\"\xff\":1}", `{"a":{"a":1,"a":2}}`,
		` { "quantity" : 2 , "locale":"zh" } `, `{"quantity":1,"quantity":1}`, `{"quantity":01}`, `{"quantity":1}x`,
		`{"quantity":1,}`, `{"email":"a@b.cc"}`, `{"quantity":"1"}`,
		`{"quantity":0}`, `{"quantity":1001}`, `{"quantity":9999999999999999}`, `{"Quantity":1}`,
		`{"phone":"+12345678","phone":"+12345678"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		order, errs := DecodeOrder(body)
		if len(errs) > 0 {
			require.Zero(t, order)
			for _, e := range errs {
				require.NotEmpty(t, e.Field)
				require.NotEmpty(t, e.Detail)
			}
			return
		}
		require.True(t, order.Quantity >= 1 && order.Quantity <= maxQuantity)
		require.True(t, order.Email == "" || validEmail(order.Email))
		require.True(t, order.Phone == "" || strings.HasPrefix(order.Phone, "+"))
		again, errs := DecodeOrder(fmt.Appendf(nil, `{"quantity":%d}`, order.Quantity))
		require.Empty(t, errs)
		require.Equal(t, order.Quantity, again.Quantity)
	})
}

func BenchmarkDecodeOrder(b *testing.B) {
	body := []byte(`{"quantity":1,"email":"ann@example.com","phone":"+8613800138000"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, errs := DecodeOrder(body); errs != nil {
			b.Fatal(errs)
		}
	}
}
