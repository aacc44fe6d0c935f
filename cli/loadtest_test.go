package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway/auth"
	"sluice/gateway/server"
	"sluice/internal/testkit/shop"
)

// targetLines runs the command and returns its lines.
func targetLines(t *testing.T, args ...string) []string {
	t.Helper()
	got := sluice(t, []string{secretEnv}, append([]string{"loadtest", "targets", "--sale", "summer"}, args...)...)
	require.Equal(t, exitSuccess, got.code, got.err)
	return strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")
}

// requireUser fails unless the gateway accepts the token as that user's.
func requireUser(t *testing.T, user, authorization string) {
	t.Helper()
	auth, err := auth.NewAuthenticator(auth.Config{Mode: auth.ModeJWT, Secret: shop.Secret}, nil, time.Now)
	require.NoError(t, err)
	got, err := auth.User(&http.Request{Header: http.Header{"Authorization": {authorization}}})
	require.NoError(t, err)
	require.Equal(t, user, got)
}

// TestVegetaTargetsFollowItsSchema uses lib/target.schema.json of the vegeta version that "make bin/vegeta" builds.
func TestVegetaTargetsFollowItsSchema(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("../loadtest/vegeta/target.schema.json")
	require.NoError(t, err)
	lines := targetLines(t, "--users", "3", "--format", "vegeta", "--url", "https://shop.example/")
	require.Len(t, lines, 3)
	for _, line := range lines {
		one, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		require.NoError(t, err)
		require.NoError(t, schema.Validate(one))
	}
	var last struct {
		Method, URL string
		Header      http.Header
		Body        []byte
	}
	require.NoError(t, json.Unmarshal([]byte(lines[2]), &last))
	require.Equal(t, "POST https://shop.example/v1/sales/summer/orders", last.Method+" "+last.URL)
	require.JSONEq(t, `{"quantity":1}`, string(last.Body))
	requireUser(t, "load-3", last.Header.Get("Authorization"))
	key, problem := api.IdempotencyKey(last.Header)
	require.Nil(t, problem)
	require.Equal(t, "load-3-summer", key)

	wrong, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"method":"POST","url":"u","headers":{}}`))
	require.NoError(t, err)
	require.Error(t, schema.Validate(wrong), "the schema refuses members it does not know")
}

func TestTargetsForK6(t *testing.T) {
	t.Parallel()
	lines := targetLines(t, "--users", "2", "--format", "k6", "--prefix", "vip-")
	require.Len(t, lines, 2)
	var one target
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &one))
	require.Equal(t, target{User: "vip-2", Token: one.Token, Key: "vip-2-summer"}, one)
	requireUser(t, "vip-2", "Bearer "+one.Token)
}

func TestTargetsForWrk(t *testing.T) {
	t.Parallel()
	fields := strings.Split(targetLines(t, "--users", "1", "--format", "wrk")[0], "\t")
	require.Len(t, fields, 4)
	requireUser(t, "load-1", "Bearer "+fields[1])
	require.Equal(t, []string{"/v1/sales/summer/orders", fields[1], "load-1-summer", `{"quantity":1}`}, fields)
}

func TestTargetsNameThisMachineForAWildcard(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{":8080": "http://127.0.0.1:8080", "0.0.0.0:80": "http://127.0.0.1:80",
		"shop.internal:8080": "http://shop.internal:8080"} {
		got, err := shopURL("", server.HTTPConfig{Addr: addr})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := shopURL("", server.HTTPConfig{Addr: "127.0.0.1:0"})
	require.ErrorContains(t, err, "set --url")
}

func TestTargetsRefuse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  []string
		args []string
		code int
		want string
	}{
		"format": {[]string{secretEnv}, []string{"--users", "1", "--format", "jmeter"}, exitUsage,
			"--format knows k6, vegeta and wrk"},
		"users": {[]string{secretEnv}, []string{"--users", "0", "--format", "k6"}, exitUsage,
			"--users must be between 1"},
		"prefix": {[]string{secretEnv}, []string{"--users", "1", "--format", "wrk", "--prefix", "a\tb"}, exitUsage,
			"--prefix must be"},
		"ttl": {[]string{secretEnv}, []string{"--users", "1", "--format", "k6", "--ttl", "1ms"},
			exitUsage, "--ttl"},
		"url": {[]string{secretEnv}, []string{"--users", "1", "--format", "k6", "--url", "shop"}, exitUsage,
			"--url wants a URL"},
		"no secret": {nil, []string{"--users", "1", "--format", "k6"}, exitFailure, "auth.secret"},
	} {
		got := sluice(t, c.env, append([]string{"loadtest", "targets", "--sale", "s"}, c.args...)...)
		require.Equal(t, c.code, got.code, name)
		require.Contains(t, got.err, c.want, name)
		require.Empty(t, got.out, name)
	}
}

// counter is a writer that drops its input and measures the heap now and then.
type counter struct {
	lines, most int
	heap        uint64
}

func (c *counter) Write(p []byte) (int, error) {
	c.lines += bytes.Count(p, []byte("\n"))
	if c.lines-c.most > 20_000 {
		c.most = c.lines
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		c.heap = max(c.heap, m.HeapAlloc)
	}
	return len(p), nil
}

// TestTargetsStream is not parallel, because it measures the heap that all tests share.
func TestTargetsStream(t *testing.T) {
	const users = 60_000
	list := targets{sale: "summer", base: "http://h", prefix: "load-", users: users, ttl: time.Hour, now: time.Now,
		auth: auth.Config{Mode: auth.ModeJWT, Secret: shop.Secret}}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := &counter{}
	require.NoError(t, list.write(t.Context(), c, vegetaTarget))
	require.Equal(t, users, c.lines)
	require.Less(t, c.heap, before.HeapAlloc+4<<20, "some 30 MB of text went through")
}

func TestTargetsStop(t *testing.T) {
	t.Parallel()
	list := targets{sale: "s", prefix: "u", users: loadtestMaxUsers, ttl: time.Hour, now: time.Now,
		auth: auth.Config{Mode: auth.ModeJWT, Secret: shop.Secret}}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- list.write(ctx, w, k6Target) }()
	_, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	cancel()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	require.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, w.Close())

	err = list.write(t.Context(), w, k6Target)
	require.ErrorIs(t, err, io.ErrClosedPipe, "a list that nobody reads is not written to its end")
	require.ErrorContains(t, err, "write target")
}
