package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory/audit"
)

// served is a "sluice serve" that runs inside the test.
type served struct {
	env       []string
	http, ops string
	logs      *shop.WatchedLog
	stop      func() (code int, stdout string)
}

func serve(t *testing.T, args ...string) served {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "sluice.yaml")
	text := fmt.Sprintf(
		"redis: {mode: embedded}\ndatabase: {driver: sqlite, dsn: %s}\nhttp: {addr: '127.0.0.1:0'}\nlog: {format: "+
			"text}\n", filepath.Join(dir, "sluice.db"))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	running := make(chan struct{})
	s := served{env: []string{secretEnv}, logs: &shop.WatchedLog{Text: "sluice is running",
		Seen: func() { close(running) }}}
	var out bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, Process{Version: "dev", Args: append([]string{"serve", "--config", file, "--ops",
			"127.0.0.1:0"}, args...), Env: s.env, Out: &out, Err: s.logs})
	}()
	s.stop = sync.OnceValues(func() (int, string) {
		cancel()
		return <-code, out.String()
	})
	t.Cleanup(func() { s.stop() })
	select {
	case <-running:
	case <-time.After(time.Minute):
		require.FailNow(t, "serve did not start")
	}
	s.http, s.ops = s.logged(t, "http"), s.logged(t, "ops")
	return s
}

// logged returns an attribute of the log line that says that Sluice runs.
func (s served) logged(t *testing.T, key string) string {
	m := regexp.MustCompile(`sluice is running.* ` + key + `=(\S+)`).FindStringSubmatch(s.logs.String())
	require.NotNil(t, m, s.logs.String())
	return strings.Trim(m[1], `"`)
}

func TestServeUntilStopped(t *testing.T) {
	s := serve(t)
	code, stdout := s.stop()
	require.Equal(t, exitSuccess, code, s.logs)
	require.Empty(t, stdout)
	require.Contains(t, s.logs.String(), "msg=stopped")
}

func TestServeOneRole(t *testing.T) {
	s := serve(t, "--role", "worker, notifier", "--set", "pool.size=2", "--set", "redis.mode=single", "--set",
		"redis.addrs="+testkit.Redis(t).Addr())
	require.Empty(t, s.http, "no public listener without the gateway")
	code, _ := s.stop()
	require.Equal(t, exitSuccess, code, s.logs)
}

// TestServeOneRoleNeedsASharedRedis checks that a process with one role refuses an embedded Redis, which other
// processes cannot reach.
func TestServeOneRoleNeedsASharedRedis(t *testing.T) {
	t.Parallel()
	got := sluice(t, []string{secretEnv}, "serve", "--role", "gateway", "--set", "redis.mode=embedded")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "redis.mode embedded")
}

func TestServeCannotStart(t *testing.T) {
	t.Parallel()
	got := sluice(t, []string{secretEnv}, "serve", "--set", "redis.mode=single", "--set", "redis.addrs=127.0.0.1:1",
		"--set", "database.dsn="+filepath.Join(t.TempDir(), "s.db"))
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "127.0.0.1:1")
	require.Empty(t, got.out)
}

// TestCommandsRunASale runs a sale with commands on a real process, from creation to the audit.
func TestCommandsRunASale(t *testing.T) {
	s := serve(t)
	do := func(args ...string) string {
		t.Helper()
		got := sluice(t, s.env, append(args, "--ops", "http://"+s.ops)...)
		require.Equal(t, exitSuccess, got.code, got.err)
		return got.out
	}
	do("sale", "create", "--id", "summer", "--title", "Phone X", "--sku", "K", "--stock", "2", "--price-cents", "9900",
		"--ends", "+2h", "--open")
	require.Contains(t, do("sale", "list"), "summer")
	for _, user := range []string{"ann", "bob", "=eve"} {
		placeOrder(t, s, user)
	}
	do("sale", "set", "summer", "--cap", "50", "--limit", "2", "--ends", "+3h", "--stock-add", "8",
		"--reason", "found more")
	var sale api.AdminSale
	require.NoError(t, json.Unmarshal([]byte(do("sale", "show", "summer", "--json")), &sale))
	require.EqualValues(t, 10, sale.StockTotal)
	require.Equal(t, []int{50, 2}, []int{sale.Cap, sale.PerUserLimit})
	starts, err := time.Parse(time.RFC3339, sale.StartsAt)
	require.NoError(t, err)
	ends, err := time.Parse(time.RFC3339, sale.EndsAt)
	require.NoError(t, err)
	require.Equal(t, 3*time.Hour, ends.Sub(starts))

	var list struct{ Orders []api.AdminOrder }
	require.Eventually(t, func() bool {
		require.NoError(t, json.Unmarshal([]byte(do("order", "list", "--sale", "summer", "--json")), &list))
		return len(list.Orders) == 2
	}, 20*time.Second, 50*time.Millisecond)
	require.Contains(t, do("order", "show", list.Orders[0].OrderID), "confirmed")
	require.Regexp(t, `(?s)admitted.*claimed.*confirmed`, do("order", "timeline", list.Orders[0].OrderID))
	require.Contains(t, do("order", "timeline", "--user", list.Orders[0].User), list.Orders[0].OrderID)
	require.Contains(t, do("order", "timeline", "--user", "nobody", "--json"), `"timelines":[]`)
	require.Equal(t, 3, strings.Count(do("order", "export", "--sale", "summer", "--format", "csv"), "\n"))

	require.Contains(t, do("sale", "pause", "summer", "--reason", "a look"), "paused")
	require.Contains(t, do("sale", "open", "summer"), "open")
	require.Contains(t, do("sale", "close", "summer"), "closed")
	var report audit.Report
	require.NoError(t, json.Unmarshal([]byte(do("audit", "--json")), &report))
	require.Equal(t, audit.Clean, report.Verdict)
	require.EqualValues(t, 2, report.Sales[0].Live)

	got := sluice(t, s.env, "sale", "show", "winter", "--ops", s.ops)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "sale winter: not_found: ")
	got = sluice(t, s.env, "sale", "create", "--id", "x", "--title", "T", "--sku", "K", "--stock", "-1",
		"--price-cents", "1", "--currency", "yuan", "--ops", s.ops)
	require.Equal(t, exitFailure, got.code)
	require.Regexp(t, `invalid_request: .*stock: must be between .*; currency: must be a code`, got.err)
	got = sluice(t, []string{"SLUICE_TOKEN=" + strings.TrimSpace(sluice(t, s.env, "token", "--user", "ann").out)},
		"audit", "--ops", s.ops)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "is SLUICE_TOKEN an administrator's")
}

// placeOrder places one order over HTTP, with a token of the command line.
func placeOrder(t *testing.T, s served, user string) {
	t.Helper()
	token := strings.TrimSpace(sluice(t, s.env, "token", "--user", user).out)
	req, err := http.NewRequest(http.MethodPost, "http://"+s.http+"/v1/sales/summer/orders", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Contains(t, []int{http.StatusAccepted, http.StatusConflict}, resp.StatusCode)
}
