package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// output is how a command ended.
type output struct {
	code        int
	stdout, err string
}

// execute runs a binary to its end in a folder.
func execute(t *testing.T, patience time.Duration, path, dir string, env []string, args ...string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = dir, env
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	require.NoError(t, ctx.Err(), "%v took longer than %s: %s%s", args, patience, &stdout, &stderr)
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit, "%v: %v", args, err)
	}
	return output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// shell is the command line against a running system.
type shell struct {
	t    *testing.T
	path string
	env  []string
}

func (s shell) do(args ...string) output {
	s.t.Helper()
	return execute(s.t, 30*time.Second, s.path, s.t.TempDir(), s.env, args...)
}

// ok runs a command that must succeed, and returns what it printed.
func (s shell) ok(args ...string) string {
	s.t.Helper()
	o := s.do(args...)
	require.Zero(s.t, o.code, "%v: %s", args, o.err)
	return o.stdout
}

// object runs a command that prints JSON.
func (s shell) object(args ...string) map[string]any {
	s.t.Helper()
	text := s.ok(append(args, "--json")...)
	var v map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(text), &v), "%v printed %s", args, text)
	return v
}

func TestCommandLineAgainstARunningSystem(t *testing.T) {
	t.Parallel()
	s := openStores(t, testkit.NewDatabase(t, "sqlite"), nil)
	c := startCluster(t, s, system{layout: layout{allRoles}, logs: t.TempDir()})
	public, ops := c.nodes[0].addresses()
	sh := shell{t: t, path: c.nodes[0].binary, env: []string{
		"PATH=" + os.Getenv("PATH"), "SLUICE_AUTH__SECRET=" + secret, "SLUICE_OPS__ADDR=" + ops,
	}}
	create := []string{"sale", "create", "--id", "phone", "--title", "Phone X", "--sku", "PX", "--stock", "5",
		"--price-cents", "9900", "--limit", "2", "--ends", "+1h"}
	require.Equal(t, "draft", sh.object(create...)["admin_state"])
	again := sh.do(create...)
	require.Equal(t, 1, again.code)
	require.Contains(t, again.err, "phone")
	require.Equal(t, "open", sh.object("sale", "open", "phone")["state"])
	require.Contains(t, sh.ok("sale", "list"), "phone")

	bearer := strings.TrimSpace(sh.ok("token", "--user", "ann"))
	accepted, err := call(t.Context(), c.client, http.MethodPost, "http://"+public+"/v1/sales/phone/orders", bearer,
		map[string]string{"Idempotency-Key": "one"}, map[string]any{"quantity": 2})
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, accepted.Status, "%s", accepted.Raw)
	done, err := call(t.Context(), c.client, http.MethodGet,
		"http://"+public+"/v1/sales/phone/orders/"+accepted.OrderID+"?wait=3s", bearer, nil, nil)
	require.NoError(t, err)
	if !final(done.State) { // the wait ends with any change
		done, err = call(t.Context(), c.client, http.MethodGet,
			"http://"+public+"/v1/sales/phone/orders/"+accepted.OrderID+"?wait=3s", bearer, nil, nil)
		require.NoError(t, err)
	}
	require.Equal(t, "confirmed", done.State)

	sh.inspect(accepted.OrderID)
	sh.change()
	require.Equal(t, true, sh.object("audit")["clean"])
	require.Contains(t, sh.ok("audit"), "clean")
	require.Equal(t, 2, sh.do("sale", "open").code)
	nowhere := sh.do("audit", "--ops", "http://127.0.0.1:1")
	require.Equal(t, 3, nowhere.code, "it could not look")
	require.Contains(t, nowhere.err, "127.0.0.1:1")
}

// inspect looks the order up in every way.
func (s shell) inspect(id string) {
	s.t.Helper()
	require.Equal(s.t, "confirmed", s.object("order", "show", id)["status"])
	require.Contains(s.t, s.ok("order", "list", "--sale", "phone"), id)
	exported := s.ok("order", "export", "--sale", "phone", "--format", "csv")
	require.Len(s.t, strings.Split(strings.TrimSpace(exported), "\n"), 2, exported)
	require.Contains(s.t, exported, id+",phone,ann,confirmed")
	var list []map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(s.ok("order", "export", "--sale", "phone", "--format", "json")), &list))
	require.Len(s.t, list, 1)
}

// change goes through what an operator may do to a sale.
func (s shell) change() {
	s.t.Helper()
	require.Equal(s.t, "paused", s.object("sale", "pause", "phone", "--reason", "look")["state"])
	require.Equal(s.t, "open", s.object("sale", "open", "phone")["state"])
	set := s.object("sale", "set", "phone", "--cap", "7", "--stock-add", "3", "--reason", "second pallet")
	require.EqualValues(s.t, 8, set["stock_total"])
	require.EqualValues(s.t, 7, set["cap"])
	require.EqualValues(s.t, 6, s.object("sale", "show", "phone")["remaining"])
	require.Equal(s.t, 1, s.do("sale", "set", "phone", "--stock-add", "-99", "--reason", "more than there is").code)
	require.Equal(s.t, 2, s.do("sale", "set", "phone", "--stock-add", "1").code, "without a reason")
	require.Equal(s.t, "closed", s.object("sale", "close", "phone")["state"])
	require.Equal(s.t, 1, s.do("sale", "open", "phone").code, "closed is final")
}

func TestDemoSellsItsStockOnAFreshMachine(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"redis-server installed": os.Getenv("PATH"), "nothing installed": ""} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := execute(t, time.Minute, binary(t, ""), dir, []string{"PATH=" + path, "HOME=" + dir}, "demo", "--once")
			require.Zero(t, o.code, "%s%s", o.stdout, o.err)
			require.Regexp(t, `(?m)confirmed\s+500\b`, o.stdout)
			require.Regexp(t, `(?m)sold_out\s+1500\b`, o.stdout)
			require.Regexp(t, `(?m)^clean$`, o.stdout)
			if path == "" {
				require.Contains(t, o.stdout, "waiting orders die with it")
			}
			require.DirExists(t, filepath.Join(dir, "data"))
		})
	}
}
