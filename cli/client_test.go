package cli

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/cli/opsclient"
	"sluice/gateway/auth"
	"sluice/gateway/server"
	"sluice/internal/testkit/shop"
)

func TestOpsURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flag, addr, want string }{
		{"", "127.0.0.1:8081", "http://127.0.0.1:8081"},
		{"", ":8081", "http://127.0.0.1:8081"},
		{"", "0.0.0.0:9", "http://127.0.0.1:9"},
		{"", "[::]:9", "http://127.0.0.1:9"},
		{"", "[::1]:9", "http://[::1]:9"},
		{"", "ops.example:9", "http://ops.example:9"},
		{"https://ops.example/sluice/", ":1", "https://ops.example/sluice"},
		{"ops.example:9", ":1", "http://ops.example:9"},
	} {
		got, err := opsURL(c.flag, server.OpsConfig{Addr: c.addr})
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	_, err := opsURL("", server.OpsConfig{Addr: "127.0.0.1:0"})
	require.ErrorContains(t, err, `ops.addr "127.0.0.1:0" names no port`)
	for _, flag := range []string{"ftp://h:1", "http://", "http://u:p@h", "http://h/?a=b",
		"http://h/#f", "http://%zz", ":8081"} {
		_, err := opsURL(flag, server.OpsConfig{Addr: ":1"})
		require.ErrorAs(t, err, &usageError{}, flag)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close())

	got := sluice(t, []string{secretEnv, "SLUICE_OPS__ADDR=" + addr}, "queue", "list")
	require.Equal(t, exitFailure, got.code)
	require.Equal(t, "sluice: operations listener http://"+addr+": connection refused: is sluice running? set "+
		"--ops\n", got.err)
	require.Empty(t, got.out)
}

func TestAnswersThatAreNotOurs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a web site": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>")
		}, "something else than JSON"},
		"a proxy": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "bad gateway", http.StatusBadGateway)
		}, "answered 502 Bad Gateway: is it the operations listener?"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, "answered 302 Found"},
		"a cut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"a flood": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte(" "), opsclient.MaxAnswer+1))
		}, "longer than 16777216 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/admin/v1/sales" {
					t.Errorf("the token went to %s", r.URL)
				}
				c.answer(w, r)
			})
			got := sluice(t, env, "sale", "list", ops)
			require.Equal(t, exitFailure, got.code)
			require.Contains(t, got.err, "operations listener http://127.0.0.1:")
			require.Contains(t, got.err, c.want)
			require.Empty(t, got.out)
		})
	}
}

func TestProblemsAreShown(t *testing.T) {
	t.Parallel()
	problem := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		status     int
		body, want string
	}{
		{400,
			`{"code":"invalid_request","detail":"See errors.","errors":[{"field":"cap","detail":"must be small"},` +
				`{"field":"ends_at","detail":"must be later"}]}`,
			"sluice: sale s: invalid_request: See errors. (cap: must be small; ends_at: must be later)\n"},
		{404, `{"code":"not_found","detail":"no such\nsale \u001b[31m"}`,
			"sluice: sale s: not_found: no such sale  [31m\n"},
		{500, `{"code":"internal","detail":"Ask.","request_id":"r1"}`,
			"sluice: sale s: internal: Ask. (request_id r1)\n"},
	} {
		env, ops := operations(t, problem(c.status, c.body))
		got := sluice(t, env, "sale", "show", "s", ops)
		require.Equal(t, exitFailure, got.code)
		require.Equal(t, c.want, got.err)
	}
	env, ops := operations(t, problem(401, `{"code":"unauthorized","detail":"the token has expired"}`))
	require.Contains(t, sluice(t, env, "sale", "show", "s", ops).
		err, "unauthorized: the token has expired: is SLUICE_TOKEN an administrator's")
	require.Contains(t, sluice(t, []string{secretEnv}, "sale", "show", "s", ops).
		err, "is auth.secret here the one of the running system?")
}

// TestAdministratorsToken checks that a token comes from the environment, or is minted for an administrator.
func TestAdministratorsToken(t *testing.T) {
	t.Parallel()
	tokens := make(chan *http.Request, 2)
	_, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
		tokens <- r
		_, _ = io.WriteString(w, `{"sales":[]}`)
	})
	require.Equal(t, exitSuccess, sluice(t, []string{secretEnv, "SLUICE_TOKEN=given"}, "sale", "list", ops).code)
	require.Equal(t, "Bearer given", (<-tokens).Header.Get("Authorization"))

	require.Equal(t, exitSuccess, sluice(t, []string{secretEnv, "USER=ann"}, "sale", "list", ops).code)
	auth, err := auth.NewAuthenticator(auth.Config{Mode: auth.ModeJWT, Secret: shop.Secret}, nil, time.Now)
	require.NoError(t, err)
	actor, err := auth.Admin(<-tokens)
	require.NoError(t, err)
	require.Equal(t, "cli:ann", actor.Name)

	got := sluice(t, nil, "sale", "list", ops)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "SLUICE_TOKEN")
	require.Contains(t, got.err, "auth.secret")
	require.Contains(t, sluice(t, []string{"SLUICE_AUTH__SECRET=short"}, "sale", "list", ops).err, "auth.secret")
}

func TestOperator(t *testing.T) {
	t.Parallel()
	for user, want := range map[string]string{"": "cli", "ann": "cli:ann", "a b": "cli", "a\nb": "cli", "köln": "cli"} {
		require.Equal(t, want, (&cli{env: []string{"USER=x", "USER=" + user}}).operator())
	}
}
