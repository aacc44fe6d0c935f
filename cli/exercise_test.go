package cli

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"sluice/admin"
	"sluice/internal/testkit"
	"sluice/store"
)

// exercise runs commands against a real process. It records which commands and which routes of the admin API have
// succeeded.
type exercise struct {
	t    *testing.T
	env  []string
	ops  string // a proxy in front of the operations listener that records successful requests
	http string
	work string
	rdb  *redis.Client
	db   *store.DB

	mu       sync.Mutex
	routes   map[string]bool // METHOD template
	commands map[string]bool
}

func newExercise(t *testing.T) *exercise {
	t.Helper()
	server := testkit.Redis(t)
	grantDocumented(t, server.Client())
	dsn := filepath.Join(t.TempDir(), "sluice.db")
	s := serve(t, "--set", "redis.mode=single", "--set", "redis.addrs="+server.Addr(), "--set", "redis.username=sluice",
		"--set", "redis.password="+redisPassword, "--set", "database.dsn="+dsn, "--set", "delay.allow_private=true",
		"--set", "work.addr=127.0.0.1:0")
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = store.SQLite, dsn
	db, err := store.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	e := &exercise{t: t, env: s.env, http: s.http, work: s.logged(t, "work"), rdb: server.Client(), db: db,
		routes:   map[string]bool{},
		commands: map[string]bool{"sluice serve": true}}
	e.ops = e.proxy(s.ops)
	return e
}

const redisPassword = "the-password-of-the-documented-user"

// grantDocumented creates the Redis user of docs/operations.md.
func grantDocumented(t *testing.T, admin *redis.Client) {
	t.Helper()
	text, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	_, line, found := strings.Cut(string(text), "    ACL SETUSER sluice ")
	require.True(t, found)
	line, _, _ = strings.Cut(line, "\n\n")
	args := []any{"ACL", "SETUSER", "sluice"}
	for _, rule := range strings.Fields(strings.ReplaceAll(line, "\\\n", " ")) {
		if rule == ">PASSWORD" {
			rule = ">" + redisPassword
		}
		args = append(args, rule)
	}
	require.NoError(t, admin.Do(t.Context(), args...).Err())
}

// refusedByRedis returns the calls that Redis has refused to the user so far.
func (e *exercise) refusedByRedis() []any {
	e.t.Helper()
	log, err := e.rdb.Do(e.t.Context(), "ACL", "LOG").Slice()
	require.NoError(e.t, err)
	return log
}

// proxy forwards everything to the listener at addr and records the routes that answered with success.
func (e *exercise) proxy(addr string) string {
	known := adminRoutes(e.t)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	proxy.FlushInterval = -1
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	proxy.ModifyResponse = func(resp *http.Response) error {
		if resp.StatusCode/100 != 2 {
			return nil
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		for route := range known {
			method, template, _ := strings.Cut(route, " ")
			if method == resp.Request.Method && fits(template, resp.Request.URL.Path) {
				e.routes[route] = true
			}
		}
		return nil
	}
	front := httptest.NewServer(proxy)
	e.t.Cleanup(front.Close)
	return front.URL
}

// fits reports whether gin would route path to template. A literal segment precedes a parameter.
func fits(template, path string) bool {
	parts, asked := strings.Split(template, "/"), strings.Split(path, "/")
	if len(parts) != len(asked) {
		return false
	}
	for i, part := range parts {
		if part != asked[i] && !strings.HasPrefix(part, ":") {
			return false
		}
	}
	return true
}

// adminRoutes returns all routes of the admin API from the router.
func adminRoutes(t *testing.T) map[string]bool {
	t.Helper()
	routes := map[string]bool{}
	ops := admin.New(admin.Parts{}, slog.New(slog.DiscardHandler), time.Now)
	for _, r := range ops.Routes() {
		if strings.HasPrefix(r.Path, "/admin/") {
			routes[r.Method+" "+r.Path] = true
		}
	}
	require.NotEmpty(t, routes)
	return routes
}

// leafCommands returns all commands without subcommands.
func leafCommands(cmd *cobra.Command) []string {
	if cmd.Name() == "completion" || cmd.Name() == "help" {
		return nil // the library's own
	}
	subs := cmd.Commands()
	if len(subs) == 0 {
		return []string{cmd.CommandPath()}
	}
	var paths []string
	for _, sub := range subs {
		paths = append(paths, leafCommands(sub)...)
	}
	return paths
}

// do runs a command that must succeed, and records it.
func (e *exercise) do(args ...string) string {
	e.t.Helper()
	cmd, _, err := newRootCommand(&cli{out: io.Discard, err: io.Discard}).Find(args)
	require.NoError(e.t, err)
	if cmd.Flag("ops") != nil {
		args = append(args, "--ops", e.ops)
	}
	got := sluice(e.t, e.env, args...)
	require.Equal(e.t, exitSuccess, got.code, "%v: %s", args, got.err)
	e.commands[cmd.CommandPath()] = true
	return got.out
}

// object runs a command that must succeed, with --json.
func (e *exercise) object(args ...string) map[string]any {
	e.t.Helper()
	text := e.do(append(args, "--json")...)
	var v map[string]any
	require.NoError(e.t, json.Unmarshal([]byte(text), &v), "%v printed %s", args, text)
	return v
}

// runUntil runs a command again and again until its output contains want.
func (e *exercise) runUntil(want string, args ...string) {
	e.t.Helper()
	printed := regexp.MustCompile(want)
	require.Eventually(e.t, func() bool {
		return printed.MatchString(e.do(args...))
	}, 20*time.Second, 20*time.Millisecond, "%v never printed %q", args, want)
}
