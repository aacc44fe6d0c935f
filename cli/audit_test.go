package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice/internal/testkit/shop"

	"github.com/stretchr/testify/require"
)

const (
	cleanAudit = `{"verdict":"clean","clean":true,"sales":[{"sale":"summer","total":500,"available":0,"live":500,` +
		`"clean":true,"verdict":"clean"}]}`
	leakAudit = `{"verdict":"different","clean":false,"sales":[{"sale":"summer","total":500,"available":10,` +
		`"live":480,"line_stock":3,"in_flight":4,` +
		`"difference":3,"problems":["10 units leaked","look"],"clean":false,"verdict":"different"},` +
		`{"sale":"night","clean":true,"verdict":"clean"},` +
		`{"sale":"day","clean":false,"verdict":"unknown","problems":["redis is away"]}]}`
	blindAudit = `{"verdict":"unknown","clean":null,"problems":["no\u001bsales"],"sales":[{"sale":"night",` +
		`"clean":true,"verdict":"clean"},` +
		`{"sale":"day","clean":false,"verdict":"unknown","problems":["redis is away"]}]}`
)

func TestAudit(t *testing.T) {
	t.Parallel()
	env, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
		answers := map[string]string{"summer": cleanAudit, "day": blindAudit, "old": `{"clean":true,"sales":[]}`,
			"older": `{"clean":false,"sales":[]}`}
		text, ok := answers[r.URL.Query().Get("sale")]
		if !ok {
			text = leakAudit
		}
		_, _ = io.WriteString(w, text)
	})
	got := sluice(t, env, "audit", "--sale", "summer", ops)
	require.Equal(t, exitSuccess, got.code, got.err)
	require.Regexp(t,
		`^SALE +TOTAL +AVAILABLE +LIVE +LINE STOCK +IN FLIGHT +DIFFERENCE +VERDICT\nsummer +500 +0 +500 +0 +0 +0 `+
			`+clean\nclean\n$`, got.out)
	require.Empty(t, got.err)

	got = sluice(t, env, "audit", ops)
	require.Equal(t, exitFailure, got.code, "a difference wins")
	require.Regexp(t,
		`\nsummer +500 +10 +480 +3 +4 +3 +different\nnight .*clean\nday .*unknown\nsummer: 10 units `+
			`leaked\nsummer: look\nday: redis is away\nDIFFERENT\n$`,
		got.out)
	require.Equal(t, "sluice: the audit found a difference: summer\n", got.err)

	got = sluice(t, env, "audit", "--sale", "day", ops)
	require.Equal(t, exitUnknown, got.code)
	require.Regexp(t, `\nday .*unknown\nno sales\nday: redis is away\nUNKNOWN: not everything could be looked at\n$`,
		got.out)
	require.Equal(t, "sluice: the audit could not look everywhere: day\n", got.err)

	for sale, want := range map[string]outcome{
		"summer": {exitSuccess, cleanAudit + "\n", ""},
		"day":    {exitUnknown, blindAudit + "\n", "sluice: the audit could not look everywhere: day\n"},
		"any":    {exitFailure, leakAudit + "\n", "sluice: the audit found a difference: summer\n"},
	} {
		require.Equal(t, want, sluice(t, env, "audit", "--json", "--sale", sale, ops))
	}
	require.Equal(t, exitSuccess, sluice(t, env, "audit", "--sale", "old", ops).
		code, "an older listener says no verdict")
	require.Equal(t, exitFailure, sluice(t, env, "audit", "--sale", "older", ops).code)
}

// TestAuditThatCannotLook checks that no answer is not a difference, and that a refusal is a failure.
func TestAuditThatCannotLook(t *testing.T) {
	t.Parallel()
	problem := func(status int, code string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"code":"`+code+`","detail":"so it is"}`)
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		want   int
	}{
		"unavailable":  {problem(503, "unavailable"), exitUnknown},
		"internal":     {problem(500, "internal"), exitUnknown},
		"rate limited": {problem(429, "rate_limited"), exitUnknown},
		"a proxy":      {func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, exitUnknown},
		"not JSON":     {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "hello") }, exitUnknown},
		"no audit":     {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "[]") }, exitUnknown},
		"no verdict":   {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "{}") }, exitUnknown},
		"unauthorized": {problem(401, "unauthorized"), exitFailure},
		"forbidden":    {problem(403, "forbidden"), exitFailure},
		"no such sale": {problem(404, "not_found"), exitFailure},
	} {
		env, ops := operations(t, func(w http.ResponseWriter, _ *http.Request) { c.answer(w) })
		got := sluice(t, env, "audit", ops)
		require.Equal(t, c.want, got.code, name)
		require.NotEmpty(t, got.err, name)
	}
	env, _ := operations(t, func(http.ResponseWriter, *http.Request) {})
	require.Equal(t, exitUnknown, sluice(t, env, "audit", "--ops", "http://127.0.0.1:1").code, "nobody listens")
	got := sluice(t, env, "audit", "--json", "--ops", "http://127.0.0.1:1")
	require.Equal(t, exitUnknown, got.code)
	require.JSONEq(t, `{"verdict":"unknown","clean":null,"sales":[],"problems":["operations listener `+
		`http://127.0.0.1:1: `+
		`connection refused: is sluice running? set --ops"]}`, got.out)
	require.Equal(t, exitUsage, sluice(t, env, "audit", "--ops", "ftp://nowhere").code)
	require.Equal(t, exitFailure, sluice(t, env, "sale", "list", "--ops", "http://127.0.0.1:1").code,
		"only an audit makes the difference")
}

func TestAuditWatchEndsOnADifference(t *testing.T) {
	t.Parallel()
	answers := make(chan string, 3)
	for _, text := range []string{cleanAudit, blindAudit, leakAudit} {
		answers <- text
	}
	env, ops := operations(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, <-answers) })
	got := sluice(t, env, "audit", "--watch", "--json", ops)
	require.Equal(t, exitFailure, got.code)
	require.Equal(t, cleanAudit+"\n"+blindAudit+"\n"+leakAudit+"\n", got.out, "it goes on when it could not look")
	require.Regexp(t,
		`^\d{4}-\d\d-\d\dT\S+ the audit could not look everywhere: day\nsluice: the audit found a difference: `+
			`summer\n$`, got.err)
}

func TestAuditWatchIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	env, ops := operations(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, cleanAudit) })
	out := &shop.WatchedLog{Text: "clean", Seen: cancel}
	var errs bytes.Buffer
	require.Equal(t, exitSuccess, Run(ctx, Process{Version: "dev", Args: []string{"audit", "--watch", ops}, Env: env,
		Out: out, Err: &errs}))
	require.Empty(t, errs.String())
}

// TestAuditWatchOutlivesItsListener checks that a watch goes on while the listener is away.
func TestAuditWatchOutlivesItsListener(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	env, _ := operations(t, func(http.ResponseWriter, *http.Request) {})
	var out bytes.Buffer
	errs := &shop.WatchedLog{Text: "is sluice running", Seen: cancel}
	require.Equal(t, exitSuccess, Run(ctx, Process{Version: "dev", Args: []string{"audit", "--watch", "--ops",
		"http://127.0.0.1:1"}, Env: env, Out: &out, Err: errs}))
	require.NotContains(t, strings.ToLower(out.String()), "clean")
}
