package cli

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"sluice/internal/testkit/shop"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew")

const secretEnv = "SLUICE_AUTH__SECRET=" + shop.Secret

// outcome is the exit code and the output of one command line.
type outcome struct {
	code     int
	out, err string
}

// sluice executes one command line in this process.
func sluice(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	code := Run(t.Context(), Process{Version: "dev", Args: args, Env: env, Out: &out, Err: &errs})
	return outcome{code, out.String(), errs.String()}
}

// operations starts a fake operations listener. It returns the environment and the flag to reach it.
func operations(t *testing.T, answer http.HandlerFunc) (env []string, ops string) {
	t.Helper()
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	return []string{"SLUICE_TOKEN=the-token"}, "--ops=" + srv.URL
}

func TestExitCodesOfWrongUsage(t *testing.T) {
	t.Parallel()
	create := []string{"sale", "create", "--id", "s", "--title", "T", "--sku", "K", "--stock", "5",
		"--price-cents", "9900"}
	with := func(more ...string) []string { return append(create[:len(create):len(create)], more...) }
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, `a command is missing after "sluice"`},
		{[]string{"sell"}, `unknown command "sell"`},
		{[]string{"sal"}, "did you mean sale?"},
		{[]string{"--nope"}, "unknown flag: --nope"},
		{[]string{"version", "--nope"}, "unknown flag: --nope"},
		{[]string{"version", "now"}, `"now"`},
		{[]string{"--config"}, "flag needs an argument: --config"},
		{[]string{"help", "sell"}, `unknown command "sell"`},
		{[]string{"completion", "cobol"}, `unknown command "cobol"`},
		{[]string{"serve", "--role", "cook"}, `--role knows gateway, worker and notifier, got "cook"`},
		{[]string{"serve", "--role", ""}, "--role names no role"},
		{[]string{"serve", "--http", "nonsense"}, "http.addr must be host:port"},
		{[]string{"serve", "--set", "queue.cap"}, "--set wants key=value"},
		{[]string{"serve", "--set", "queue.capp=1"}, `unknown key "queue.capp" (flag)`},
		{[]string{"config", "check", "--set", "queue.cap=many"}, `queue.cap must be a whole number, got "many" (flag)`},
		{[]string{"sale"}, "one of close, create, list, open, pause, set, show"},
		{[]string{"sale", "lst"}, "did you mean list"},
		{[]string{"sale", "show"}, "accepts 1 arg(s), received 0"},
		{[]string{"sale", "show", "a", "b"}, "accepts 1 arg(s), received 2"},
		{[]string{"sale", "show", "../x"}, "a sale's id is"},
		{[]string{"sale", "list", "--ops", "ftp://h"}, "--ops wants a URL"},
		{[]string{"sale", "create", "--id", "s"}, `required flag(s) "price-cents", "sku", "stock", "title" not set`},
		{with("--stock", "many"), `"--stock"`},
		{with("--id", "a b"), "a sale's id is"},
		{with("--starts", "tomorrow"), "--starts wants now"},
		{with("--ends", "+never"), "--ends wants now"},
		{with("--ends", "+-1h"), "--ends wants now"},
		{[]string{"sale", "set", "s"}, "at least one of the flags"},
		{[]string{"sale", "set", "s", "--stock-add", "5"}, "--stock-add needs --reason"},
		{[]string{"sale", "set", "s", "--stock-add", "5", "--reason", " "}, "--stock-add needs --reason"},
		{[]string{"sale", "set", "s", "--stock-add", "0", "--reason", "r"}, "--stock-add must not be 0"},
		{[]string{"sale", "set", "s", "--ends", ""}, "--ends wants now"},
		{[]string{"order", "show"}, "accepts 1 arg(s)"},
		{[]string{"order", "show", "a/b"}, "an order's id is"},
		{[]string{"order", "list"}, `required flag(s) "sale" not set`},
		{[]string{"order", "list", "--sale", "s", "--limit", "0"}, "--limit must be between 1 and 1000"},
		{[]string{"order", "export", "--sale", "s"}, `required flag(s) "format" not set`},
		{[]string{"order", "export", "--sale", "s", "--format", "xml"}, `--format must be csv or json, got "xml"`},
		{[]string{"audit", "--sale", ""}, "a sale's id is"},
		{[]string{"audit", "s"}, `"s"`},
		{[]string{"token"}, `required flag(s) "user" not set`},
		{[]string{"token", "--user", "u", "--ttl", "1"}, `"--ttl"`},
		{[]string{"token", "--user", "u", "--ttl", "0s"}, "--ttl must be at least 1s"},
		{[]string{"migrate", "down"}, `unknown command "down"`},
		{[]string{"demo", "--shoppers", "-1"}, "--shoppers"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			got := sluice(t, []string{secretEnv}, c.args...)
			require.Equal(t, exitUsage, got.code, got.err)
			require.Contains(t, got.err, c.want)
			require.Contains(t, got.err, "--help)\n")
			require.Empty(t, got.out)
			if c.args != nil {
				require.True(t, strings.HasPrefix(got.err, "sluice: "), got.err)
				require.Equal(t, 1, strings.Count(got.err, "\n"), got.err)
			}
		})
	}
}

func TestRootHelp(t *testing.T) {
	t.Parallel()
	const golden = "testdata/help.txt"
	got := sluice(t, nil, "--help")
	require.Equal(t, exitSuccess, got.code)
	require.Empty(t, got.err)
	if *updateGolden {
		require.NoError(t, os.WriteFile(golden, []byte(got.out), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got.out)
}

func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	root := newRootCommand(&cli{out: io.Discard, err: io.Discard})
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Name() == "completion" {
			return // the library's own, with examples in its text
		}
		path := strings.Fields(cmd.CommandPath())[1:]
		for _, args := range [][]string{append(path, "--help"), append([]string{"help"}, path...)} {
			got := sluice(t, nil, args...)
			require.Equal(t, exitSuccess, got.code, "%v: %s", args, got.err)
			require.Contains(t, got.out, "Examples:\n  sluice ", "%v", args)
			require.Contains(t, got.out, "--config file", "%v", args)
			require.Empty(t, got.err)
		}
		require.NotEmpty(t, cmd.Short)
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(root)
}

// TestJSONFlags checks that every command that prints data can print it as JSON.
func TestJSONFlags(t *testing.T) {
	t.Parallel()
	root := newRootCommand(&cli{out: io.Discard, err: io.Discard})
	var without []string
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if cmd.Name() == "completion" {
			return // the library's own, for shells
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
		if !cmd.HasSubCommands() && cmd.Flags().Lookup("json") == nil {
			without = append(without, strings.TrimPrefix(cmd.CommandPath(), "sluice "))
		}
	}
	look(root)
	require.ElementsMatch(t, []string{"demo", "serve", // they run until they are stopped
		"loadtest targets", "order export", // they have formats of their own
		"topic delete", "topic dead drop", "topic dead retry", "topic message cancel", // nothing is left to show
		"subscription delete", "subscription dead drop", "subscription dead retry", // the same
		"subscription pump", // it prints nothing else
	}, without)
}

// TestCommandsOfTheContract checks that the commands and flags on which scripts rely exist.
func TestCommandsOfTheContract(t *testing.T) {
	t.Parallel()
	root := newRootCommand(&cli{out: io.Discard, err: io.Discard})
	for path, flags := range map[string]string{
		"demo": "shoppers stock once", "serve": "role",
		"sale create": "id title sku stock price-cents currency limit cap", "sale list": "", "sale show": "",
		"sale open":  "",
		"sale pause": "", "sale close": "", "sale set": "cap stock-add reason ends", "order show": "",
		"order list": "sale", "order export": "sale format",
		"dead list": "sale", "dead show": "sale", "dead requeue": "sale", "dead drop": "sale", "audit": "sale watch",
		"rebuild": "sale", "token": "user admin ttl publish subscribe",
		"loadtest targets": "sale users format", "migrate up": "", "migrate status": "", "config check": "",
		"config print": "", "version": "",
	} {
		cmd, _, err := root.Find(strings.Fields(path))
		require.NoError(t, err)
		require.Equal(t, "sluice "+path, cmd.CommandPath())
		for name := range strings.FieldsSeq(flags) {
			require.NotNil(t, cmd.Flag(name), "%s --%s", path, name)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	got := sluice(t, nil, "version")
	require.Equal(t, exitSuccess, got.code)
	require.Regexp(t, `^sluice \S+, commit .+, go1\.\d+`, got.out)
	got = sluice(t, nil, "version", "--json")
	require.Regexp(t, `^\{"version":"[^"]+","commit":"[^"]+","go":"go1[^"]+"\}\n$`, got.out)
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestUnwritableOutputIsAFailure(t *testing.T) {
	t.Parallel()
	var errs bytes.Buffer
	require.Equal(t, exitFailure, Run(t.Context(), Process{Version: "dev", Args: []string{"version"}, Env: nil,
		Out: brokenWriter{}, Err: &errs}))
	require.Equal(t, "sluice: write to standard output: short write\n", errs.String())
}

func TestInterruptedCommandFails(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	env, ops := operations(t, func(http.ResponseWriter, *http.Request) { cancel() })
	cancel()
	var errs bytes.Buffer
	require.Equal(t, exitFailure, Run(ctx, Process{Version: "dev", Args: []string{"sale", "list", ops}, Env: env,
		Out: io.Discard, Err: &errs}))
	require.Equal(t, "sluice: interrupted\n", errs.String())
}
