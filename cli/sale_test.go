package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sentRequest is one request that the recorder got.
type sentRequest struct{ call, body string }

// recorder answers every request with reply and remembers the requests.
type recorder struct {
	mu    sync.Mutex
	reply string
	sent  []sentRequest
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		body = []byte(err.Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, sentRequest{req.Method + " " + req.URL.RequestURI(), string(body)})
	_, _ = io.WriteString(w, r.reply)
}

const summer = `{"id":"summer","title":"Phone X","sku":"PHONE-X","price_cents":9905,"currency":"CNY","stock_total":500,
"available":480,"remaining":470,
"per_user_limit":1,"cap":0,"state":"scheduled","admin_state":"open",
"starts_at":"2027-06-01T12:00:00.000Z","ends_at":"2027-06-01T13:00:00.000Z",
"line":{"depth":7,"capacity":2000,"oldest_age_seconds":1.25,"dead":3,"rebuilding":true},"unheard_of":1}`

func TestSaleRequests(t *testing.T) {
	t.Parallel()
	create := []string{"sale", "create", "--id", "summer", "--title", "Phone X", "--sku", "K", "--stock", "500",
		"--price-cents", "9900"}
	const body = `"id":"summer","title":"Phone X","sku":"K","stock":500,"price_cents":9900`
	with := func(more ...string) []string { return append(create[:len(create):len(create)], more...) }
	for name, c := range map[string]struct {
		args []string
		want []sentRequest
	}{
		"create": {create, []sentRequest{{"POST /admin/v1/sales",
			`{` + body + `,"currency":"CNY","per_user_limit":1,"cap":0,"open":false,"reason":""}`}}},
		"create with everything": {with("--currency", "EUR", "--limit", "2", "--cap", "10", "--open", "--starts",
			"2027-06-01T20:00:00+08:00", "--ends", "+90m"),
			[]sentRequest{{"POST /admin/v1/sales", `{` + body + `,"currency":"EUR","per_user_limit":2,"cap":10,` +
				`"starts_at":"2027-06-01T12:00:00Z","ends_at":"2027-06-01T13:30:00Z","open":true,"reason":""}`}}},
		"show": {[]string{"sale", "show", "summer"}, []sentRequest{{"GET /admin/v1/sales/summer", ""}}},
		"open": {[]string{"sale", "open", "summer"}, []sentRequest{{"POST /admin/v1/sales/summer/open",
			`{"reason":""}`}}},
		"pause": {[]string{"sale", "pause", "summer", "--reason", "price"},
			[]sentRequest{{"POST /admin/v1/sales/summer/pause", `{"reason":"price"}`}}},
		"close": {[]string{"sale", "close", "summer"}, []sentRequest{{"POST /admin/v1/sales/summer/close",
			`{"reason":""}`}}},
		"stock": {[]string{"sale", "set", "summer", "--stock-add", "-20", "--reason", "damaged"},
			[]sentRequest{{"POST /admin/v1/sales/summer/stock", `{"delta":-20,"reason":"damaged"}`}}},
		"settings, then stock": {[]string{"sale", "set", "summer", "--cap", "0", "--limit", "3", "--stock-add", "5",
			"--reason", "found"}, []sentRequest{
			{"PATCH /admin/v1/sales/summer", `{"cap":0,"per_user_limit":3,"reason":"found"}`},
			{"POST /admin/v1/sales/summer/stock", `{"delta":5,"reason":"found"}`}}},
		"a window": {[]string{"sale", "set", "summer", "--starts", "2027-06-02T00:00:00Z", "--ends", "+1h"},
			[]sentRequest{{"PATCH /admin/v1/sales/summer",
				`{"starts_at":"2027-06-02T00:00:00Z","ends_at":"2027-06-02T01:00:00Z"}`}}},
		"an end that counts from the sale's start": {[]string{"sale", "set", "summer", "--ends", "+3h"}, []sentRequest{
			{"GET /admin/v1/sales/summer", ""},
			{"PATCH /admin/v1/sales/summer", `{"ends_at":"2027-06-01T15:00:00Z"}`}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{reply: summer}
			env, ops := operations(t, r.ServeHTTP)
			got := sluice(t, env, append(c.args, ops)...)
			require.Equal(t, exitSuccess, got.code, got.err)
			require.Empty(t, got.err)
			require.Contains(t, got.out, "Phone X")
			require.Equal(t, c.want, r.sent)

			got = sluice(t, env, append(c.args, ops, "--json")...)
			require.Equal(t, summer+"\n", got.out, "--json is what the listener answered")
		})
	}
}

func TestSaleTimesFromNow(t *testing.T) {
	t.Parallel()
	r := &recorder{reply: summer}
	env, ops := operations(t, r.ServeHTTP)
	before := time.Now()
	require.Equal(t, exitSuccess, sluice(t, env, "sale", "create", "--id", "s", "--title", "T", "--sku", "K", "--stock",
		"1", "--price-cents", "0",
		"--starts", "+5m", "--ends", "+1h", ops).code)
	require.Equal(t, exitSuccess, sluice(t, env, "sale", "create", "--id", "s", "--title", "T", "--sku", "K", "--stock",
		"1", "--price-cents", "0",
		"--ends", "+1h", ops).code)
	require.Equal(t, exitSuccess, sluice(t, env, "sale", "set", "s", "--ends", "now", ops).code)
	for i, want := range []struct{ starts, ends time.Duration }{{5 * time.Minute, 65 * time.Minute},
		{0, time.Hour}, {0, 0}} {
		var body saleEdit
		require.NoError(t, json.Unmarshal([]byte(r.sent[i].body), &body))
		if want.starts == 0 {
			require.Nil(t, body.StartsAt, "the server knows its now best")
		} else {
			require.WithinDuration(t, before.Add(want.starts), *body.StartsAt, time.Minute)
		}
		require.WithinDuration(t, before.Add(want.ends), *body.EndsAt, time.Minute)
	}
}

func TestSaleTables(t *testing.T) {
	t.Parallel()
	env, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/admin/v1/sales" {
			_, _ = io.WriteString(w, `{"sales":[`+summer+`,{"id":"night","title":"T","state":"closed"}]}`)
			return
		}
		_, _ = io.WriteString(w, summer)
	})
	list := sluice(t, env, "sale", "list", ops).out
	require.Regexp(t, `(?m)^SALE +STATE +REMAINING +STOCK +IN LINE +LIMIT +STARTS +ENDS +TITLE$`, list)
	require.Regexp(t,
		`(?m)^summer +scheduled +470 +500 +7/2000 +1 +2027-06-01T12:00:00.000Z +2027-06-01T13:00:00.000Z +Phone X$`,
		list)
	require.Regexp(t, `(?m)^night +closed +0 +0 +- `, list)
	card := sluice(t, env, "sale", "show", "summer", ops).out
	for _, want := range []string{`price +99\.05 CNY`, `state +scheduled \(set to open\)`, `oldest in line +1\.2s`,
		`dead letters +3`, `line +being rebuilt`} {
		require.Regexp(t, `(?m)^`+want+`$`, card)
	}
}

// TestSaleSetHalfDone checks that the message says what was done when only the stock change is refused.
func TestSaleSetHalfDone(t *testing.T) {
	t.Parallel()
	env, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"code":"conflict","detail":"fewer units are available"}`)
			return
		}
		_, _ = io.WriteString(w, summer)
	})
	got := sluice(t, env, "sale", "set", "summer", "--cap", "5", "--stock-add", "-900", "--reason", "r", ops)
	require.Equal(t, exitFailure, got.code)
	require.Equal(t,
		"sluice: sale summer: the settings are changed, the stock is not: conflict: fewer units are available\n",
		got.err)
	require.Empty(t, got.out)
}

// TestSaleSetWithoutAnAnswer checks that a stock change without an answer is repeated with its key. An unknown outcome
// is not called a failure.
func TestSaleSetWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var keys []string
	answers := []http.HandlerFunc{}
	env, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		answers[min(len(keys), len(answers))-1](w, r)
	})
	lost := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	away := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"code":"unavailable","detail":"who knows"}`)
	}
	made := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Replace(summer, `"unheard_of":1`, `"in_line":false`, 1))
	}
	set := func(with []http.HandlerFunc, more ...string) (outcome, []string) {
		mu.Lock()
		keys, answers = nil, with
		mu.Unlock()
		got := sluice(t, env, append([]string{"sale", "set", "summer", "--stock-add", "5", "--reason", "found",
			ops}, more...)...)
		mu.Lock()
		defer mu.Unlock()
		require.GreaterOrEqual(t, len(keys), 3)
		return got, slices.Compact(slices.Clone(keys))
	}
	got, asked := set([]http.HandlerFunc{lost, away, made})
	require.Equal(t, exitSuccess, got.code, got.err)
	require.Contains(t, got.out, "made in the ledger; the line follows by itself")
	require.Len(t, asked, 1, "always the same key")
	require.Len(t, asked[0], 38, "made for this change")

	got, asked = set([]http.HandlerFunc{away, lost}, "--key", "box-1")
	require.Equal(t, exitFailure, got.code)
	require.Equal(t, []string{`"box-1"`}, asked)
	require.Regexp(t,
		"^sluice: sale summer: whether the stock is changed is not known, repeat the command with --key box-1 and "+
			"it is changed once", got.err)
}
