package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/app"
	"sluice/configs"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

// pair is two processes with the same stores and the same file.
type pair struct {
	t    *testing.T
	file string
	apps [2]*app.App
	logs [2]*slog.Logger
	env  []string // of the command line
}

func startPair(t *testing.T, driver, text string) *pair {
	t.Helper()
	p := &pair{t: t, file: filepath.Join(t.TempDir(), "sluice.yaml"),
		env: []string{"SLUICE_AUTH__SECRET=" + shop.Secret}}
	p.write(text)
	db, redis := testkit.NewDatabase(t, driver), testkit.Redis(t).Addr()
	for i := range p.apps {
		loaded, err := configs.Load(configs.Options{File: p.file, Env: append(p.env, "SLUICE_DATABASE__DSN="+db.DSN),
			Flags: map[string]any{
				"http.addr": "127.0.0.1:0", "ops.addr": "127.0.0.1:0", "database.driver": db.Driver,
				"redis.mode": "single", "redis.addrs": redis}})
		require.NoError(t, err)
		level := new(slog.LevelVar)
		level.Set(slog.LevelWarn)
		log := slog.New(slog.NewTextHandler(shop.Log{T: t}, &slog.HandlerOptions{Level: level}))
		a, err := app.New(t.Context(), loaded.Config, app.Options{Roles: app.AllRoles(), Log: log,
			Registry: prometheus.NewRegistry(), Now: time.Now, Version: "test",
			Level: level, Loaded: loaded})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, stopApp(a)) })
		require.NoError(t, a.Start(t.Context()))
		p.apps[i], p.logs[i] = a, log
	}
	return p
}

func (p *pair) write(text string) {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(p.file+".new", []byte("log: {level: warn}\n"+text), 0o600))
	require.NoError(p.t, os.Rename(p.file+".new", p.file))
}

// run runs a command against one of the processes.
func (p *pair) run(i int, args ...string) outcome {
	p.t.Helper()
	return sluice(p.t, p.env, append(args, "--ops", "http://"+p.apps[i].OpsAddr())...)
}

func (p *pair) mustRun(i int, args ...string) string {
	p.t.Helper()
	got := p.run(i, args...)
	require.Equal(p.t, exitSuccess, got.code, "%v: %s", args, got.err)
	return got.out
}

// waitForVersion waits until both processes have the same version, at least want, and returns it.
func (p *pair) waitForVersion(want int64) int64 {
	p.t.Helper()
	var a, b int64
	require.Eventually(p.t, func() bool {
		a, _ = p.apps[0].Live().Version()
		b, _ = p.apps[1].Live().Version()
		return a == b && a >= want
	}, 20*time.Second, 20*time.Millisecond)
	return a
}

// TestLiveCommands runs every command that changes settings against one process and checks its effect in the other.
func TestLiveCommands(t *testing.T) {
	t.Parallel()
	p := startPair(t, "mysql", "")
	openSale(t, inventory.NewSale{ID: "phone", Stock: 10}, p.apps[0], p.apps[1])
	require.Contains(t, p.mustRun(0, "limits", "show"), "version 0, as started")

	require.Regexp(t, `(?m)^global_rps +5000 *$`, p.mustRun(0, "limits", "set", "global_rps=5000", "per_user_rps=3",
		"--reason", "rush"))
	p.mustRun(0, "limits", "set", "--sale", "phone", "per_user_rps=1", "--for", "10m")
	p.waitForVersion(2)
	other := p.apps[1].Live().Config().Limits
	require.InDelta(t, 5000, other.GlobalRPS, 0)
	require.InDelta(t, 1, *other.Sales["phone"].PerUserRPS, 0)
	require.Contains(t, p.mustRun(1, "limits", "show"), "version 2, admin by cli")
	p.mustRun(1, "limits", "revert", "--to", "1")
	require.Empty(t, p.apps[1].Live().Config().Limits.Sales)
	p.mustRun(1, "limits", "set", "--sale", "phone", "global_rps=7")
	p.mustRun(1, "limits", "set", "--sale", "phone", "--reason", "as all")
	require.Empty(t, p.apps[1].Live().Config().Limits.Sales)
	p.mustRun(1, "limits", "set", "per_user_rps=")
	require.Zero(t, p.apps[1].Live().Config().Limits.PerUserRPS)

	p.mustRun(0, "config", "set", "pool.size=3", "queue.batch=50", "--reason", "smaller database")
	require.Regexp(t, `(?m)^pool.size +3 +admin`, p.mustRun(0, "config", "show"))
	p.mustRun(0, "config", "revert")
	require.Regexp(t, `(?m)^pool.size +8 +default`, p.mustRun(0, "config", "show"))
	require.Regexp(t, `(?m)^7 +\S+ +cli\S* +admin +smaller database$`, p.mustRun(0, "config", "versions"))

	p.write("queue: {cap: 77}\npool: {size: 2}\nstop: {grace: 9s}")
	require.Regexp(t, `needs restart  stop.grace`, p.mustRun(0, "config", "reload", "--reason", "new file"))
	require.Equal(t, 77, p.apps[0].Live().Config().Queue.Cap)
	p.waitForVersion(9)
	require.Eventually(t, func() bool {
		v, err := p.apps[0].Lines().Of("phone").View(t.Context())
		return err == nil && v.Cap == 77
	}, 10*time.Second, 20*time.Millisecond, "open sales without a cap of their own follow")

	require.Equal(t, "warn\n", p.mustRun(0, "log-level"))
	require.Contains(t, p.mustRun(0, "log-level", "debug", "--for", "5m"), "debug until 20")
	require.True(t, p.logs[0].Enabled(t.Context(), slog.LevelDebug))
	p.mustRun(0, "log-level", "error")

	var list struct {
		Instances []struct {
			Roles         []string `json:"roles"`
			ConfigVersion int64    `json:"config_version"`
			ConfigFile    string   `json:"config_file"`
		} `json:"instances"`
	}
	last := p.waitForVersion(11)
	require.Eventually(t, func() bool {
		require.NoError(t, json.Unmarshal([]byte(p.mustRun(1, "instances", "--json")), &list))
		return len(list.Instances) == 2 && list.Instances[0].ConfigVersion == last &&
			list.Instances[1].ConfigVersion == last
	}, 10*time.Second, 50*time.Millisecond, "%+v", list)
	require.Equal(t, []string{"gateway", "worker", "notifier"}, list.Instances[0].Roles)
	require.Equal(t, list.Instances[0].ConfigFile, list.Instances[1].ConfigFile)
	require.Contains(t, p.mustRun(1, "instances"), p.apps[0].Name())

	for want, args := range map[string][]string{
		"pool.size: ":           {"config", "set", "pool.size=0"},
		"needs a restart":       {"config", "set", "http.addr=:1"},
		"limits.nonsense":       {"limits", "set", "nonsense=3"},
		"nothing: no such sale": {"limits", "set", "--sale", "nothing", "per_user_rps=3"},
		"not_found":             {"config", "revert", "--to", "999"},
		"log.level":             {"log-level", "loud"},
		"must be a duration":    {"config", "set", "pool.size=4", "--for", "soon"},
		"for this switch":       {"switch", "drain", "off", "--sale", "nothing"},
		"wants KEY=VALUE":       {"config", "set", "pool.size"},
		"wants a number":        {"limits", "set", "global_rps=many"},
		"names no limit":        {"limits", "set"},
		"--to must be":          {"limits", "revert", "--to", "-1"},
		"invalid argument":      {"switch", "drain", "maybe"},
		"exclude each other":    {"token", "--user", "x", "--admin", "--role", "viewer"},
		"role must be viewer, ": {"token", "--user", "x", "--role", "boss"},
	} {
		if args[0] == "token" {
			got := sluice(t, p.env, args...)
			require.NotEqual(t, exitSuccess, got.code)
			require.Contains(t, got.err, want)
			continue
		}
		got := p.run(0, args...)
		require.NotEqual(t, exitSuccess, got.code, args)
		if want != "for this switch" {
			require.Contains(t, got.err, want, args)
		}
	}
	require.EqualValues(t, last, p.waitForVersion(last), "what was refused has changed nothing")
}

// TestSwitches checks both switches in both processes. Without admission orders are refused and tickets stay; without
// drain orders are accepted and tickets stay.
func TestSwitches(t *testing.T) {
	t.Parallel()
	p := startPair(t, "sqlite", "")
	openSale(t, inventory.NewSale{ID: "phone", Stock: 100}, p.apps[0], p.apps[1])
	order := func(i, n int) (int, string) {
		resp, err := http.DefaultClient.Do(shop.Order(t, p.apps[i].Addr(), "phone", n))
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	require.Contains(t, p.mustRun(0, "switch", "drain", "off", "--sale", "phone", "--reason", "looking"),
		"drain off for  phone")
	p.waitForVersion(1)
	status, body := order(1, 1)
	require.Equal(t, http.StatusAccepted, status)
	require.Contains(t, body, `"eta_seconds":61`, "nobody knows when it goes on")
	waiting := func() int64 {
		v, err := p.apps[0].Lines().Of("phone").View(t.Context())
		require.NoError(t, err)
		return v.Waiting
	}
	require.Never(t, func() bool { return waiting() != 1 }, 700*time.Millisecond, 50*time.Millisecond)
	p.mustRun(1, "switch", "admission", "off")
	p.waitForVersion(2)
	for i := range p.apps {
		status, body := order(i, 2)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Contains(t, body, `"code":"sale_paused"`)
	}
	require.Equal(t, "admission      off\ndrain          on\ndrain off for  phone\n", p.mustRun(0, "switch", "show"))
	p.mustRun(0, "switch", "drain", "on", "--sale", "phone")
	require.Eventually(t, func() bool { return waiting() == 0 }, 10*time.Second, 20*time.Millisecond)
	p.mustRun(0, "switch", "admission", "on")
	p.waitForVersion(4)
	status, _ = order(1, 2)
	require.Equal(t, http.StatusAccepted, status)
}

// TestConditionsOfChanges checks If-Match: without it 428, with an old version 412.
func TestConditionsOfChanges(t *testing.T) {
	t.Parallel()
	p := startPair(t, "sqlite", "")
	token := strings.TrimSpace(sluice(t, p.env, "token", "--user", "root", "--admin").out)
	call := func(method, path, match, body string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.apps[0].OpsAddr()+"/admin/v1"+path,
			strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		if match != "" {
			req.Header.Set("If-Match", match)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp, string(text)
	}
	for path, body := range map[string]string{"/limits": `{"limits":{"global_rps":5}}`,
		"/config": `{"set":{"pool.size":5}}`} {
		resp, _ := call(http.MethodGet, path, "", "")
		tag := resp.Header.Get("ETag")
		resp, text := call(http.MethodPatch, path, "", body)
		require.Equal(t, http.StatusPreconditionRequired, resp.StatusCode, text)
		resp, text = call(http.MethodPatch, path, tag, body)
		require.Equal(t, http.StatusOK, resp.StatusCode, text)
		require.NotEqual(t, tag, resp.Header.Get("ETag"))
		resp, text = call(http.MethodPatch, path, tag, body)
		require.Equal(t, http.StatusPreconditionFailed, resp.StatusCode, text)
		require.Contains(t, text, "precondition_failed")
		resp, _ = call(http.MethodPatch, path, "nonsense", body)
		require.Equal(t, http.StatusPreconditionFailed, resp.StatusCode)
		resp, text = call(http.MethodPatch, path, "*", body)
		require.Equal(t, http.StatusOK, resp.StatusCode, text)
	}
	resp, text := call(http.MethodPatch, "/limits", "*", `{"limits":{"global_rps":-1,"global_burst":-4}}`)
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Contains(t, text, "limits.global_rps must be")
}

// TestARateReachesItsChannel checks that a channel with a tiny rate sends at once when the rate is lifted.
func TestARateReachesItsChannel(t *testing.T) {
	t.Parallel()
	endpoint := shop.NewEndpoint(t)
	endpoint.Status.Store(http.StatusNoContent)
	p := startPair(t, "sqlite",
		fmt.Sprintf(
			"notify: {webhook: {enabled: true, url: %s/hook, secrets: [%s], allow_private: true, rate: 0.001, "+
				"timeout: 5s}}", endpoint.URL, shop.HookSecret))
	openSale(t, inventory.NewSale{ID: "phone", Stock: 9}, p.apps[0], p.apps[1])
	for n := range 6 {
		resp, err := http.DefaultClient.Do(shop.Order(t, p.apps[0].Addr(), "phone", n))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusAccepted, resp.StatusCode)
	}
	deliveries := func() int { return strings.Count(endpoint.Bodies("/hook"), "order.confirmed") }
	require.Eventually(t, func() bool { return deliveries() > 0 }, 15*time.Second, 10*time.Millisecond)
	require.LessOrEqual(t, deliveries(), 2, "each process may send one")
	p.mustRun(0, "config", "set", "notify.webhook.rate=0", "--reason", "the shop is well")
	require.Eventually(t, func() bool { return deliveries() == 6 }, 15*time.Second, 10*time.Millisecond)
}
