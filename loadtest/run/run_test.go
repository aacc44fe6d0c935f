package main

import (
	"bytes"
	"context"
	"fmt"
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

// built is a Sluice that all tests of the process share.
var built string

// TestMain builds Sluice once: tests that begin together would each compile and link all of it.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-loadtest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = filepath.Join(dir, "sluice")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", built, ".") // #nosec G204 -- into a folder of our own
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0", "GOGC=")
	if text, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build sluice: %v\n%s", err, text)
		os.Exit(1)
	}
	testkit.VerifyMain(m, func() error { return os.RemoveAll(dir) })
}

// runFolder returns a folder for a run, in which "go build" finds Sluice as it would build it.
func runFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(built)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sluice"), text, 0o755)) // #nosec G306 -- it is run
	return dir
}

// fakeK6 returns a fake k6 that checks that the system is ready, writes a summary and a log, and exits with code.
func fakeK6(t *testing.T, summary, log string, code int) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "summary"), []byte(summary), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "log"), []byte(log), 0o644))
	script := `#!/bin/sh
[ "$1" = version ] && { echo "k6 v9.9.9 (somewhere)"; exit 0; }
for arg; do case $arg in file=*) cp ` + dir + `/log "${arg#file=}";; esac; done
echo "$SLUICE_AUTH__SECRET $BASE_URL $OPS_URL $arg" >>` + dir + `/calls
cp ` + dir + `/summary "$SUMMARY"
exit ` + fmt.Sprint(code) + "\n"
	path := filepath.Join(dir, "k6")
	require.NoError(t, os.WriteFile(path, []byte(script), 0o755))
	return path
}

const goodSummary = `{"scenario":"x","seconds":1.5,"requests":30,"admitted":10,"refused":{"sold_out":5},
"ended":{"confirmed":10},
"latency_ms":{"admitted":{"med":2.25,"p(90)":5,"p(95)":6,"p(99)":12.5,"p(99.9)":20,"max":40,"count":10}},
"place_error_ms":{"med":990,"p(99)":1000},"broken":[]}`

func TestARunOnARealSluice(t *testing.T) {
	t.Parallel()
	k6, dir := fakeK6(t, goodSummary, "", 0), runFolder(t)
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"-k6", k6, "-dir", dir, "-source", "../..", "-ci"}, &out, &errs)
	require.Zero(t, code, "%s%s", &out, &errs)
	require.Contains(t, out.String(), "verdict  PASSED")
	require.Contains(t, out.String(), "audit    clean: 0 sales")
	require.Contains(t, out.String(), "k6 v9.9.9")
	require.FileExists(t, filepath.Join(dir, "report.html"))

	calls, err := os.ReadFile(filepath.Join(filepath.Dir(k6), "calls"))
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(calls)), "\n")
	require.Len(t, lines, 3, "smoke, double clicks, opening bell")
	fields := strings.Fields(lines[2])
	require.Len(t, fields[0], 64, "a secret of its own")
	require.Equal(t, "loadtest/k6/opening_bell.js", fields[3])
	_, err = http.Get(fields[2] + "/livez") //nolint:bodyclose // there is no answer
	require.Error(t, err, "nothing is left running")
}

func TestABrokenRunFails(t *testing.T) {
	t.Parallel()
	log := `{"level":"error","msg":"broken: user ann holds 2 orders, limit 1","source":"console"}` + "\n"
	k6 := fakeK6(t, strings.Replace(goodSummary, `"broken":[]`, `"broken":["oversold: 612 confirmed of 500"]`, 1), log,
		99)
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"-k6", k6, "-dir", runFolder(t), "-source", "../..", "-ci"}, &out, &errs)
	require.Equal(t, 1, code)
	require.Contains(t, out.String(),
		"verdict  FAILED\n  smoke: user ann holds 2 orders, limit 1\n  smoke: oversold: 612 confirmed of 500\n")
	require.Empty(t, errs.String())
}

func TestARunThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"flag":   {[]string{"-nope"}, 2, "not defined"},
		"word":   {[]string{"now"}, 2, `unknown argument "now"`},
		"source": {[]string{"-source", t.TempDir(), "-dir", t.TempDir()}, 1, "build sluice"},
		"k6":     {[]string{"-k6", "/no/k6", "-source", "../..", "-dir", runFolder(t)}, 1, "/no/k6"},
	} {
		var out, errs bytes.Buffer
		require.Equal(t, c.code, run(t.Context(), c.args, &out, &errs), name)
		require.Contains(t, errs.String(), c.want, name)
	}
}

func TestAnInterruptStopsEverything(t *testing.T) {
	t.Parallel()
	dir := runFolder(t)
	called, k6 := filepath.Join(dir, "called"), filepath.Join(dir, "k6")
	require.NoError(t, os.WriteFile(k6,
		[]byte("#!/bin/sh\n[ \"$1\" = version ] || { echo $OPS_URL >"+called+".new; mv "+called+".new "+called+
			"; exec sleep 100; }\n"), 0o755))
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"-k6", k6, "-dir", dir, "-source", "../.."}, &out, &errs) }()
	var ops []byte
	require.Eventually(t, func() (there bool) {
		var err error
		ops, err = os.ReadFile(called)
		return err == nil || len(code) > 0
	}, 20*time.Minute, 10*time.Millisecond) // sluice may have to be compiled first
	require.NotEmpty(t, ops, "it ended before k6 ran")
	cancel()
	require.Equal(t, 1, <-code)
	require.Equal(t, "loadtest: interrupted; what was started is stopped\n", errs.String())
	_, err := http.Get(strings.TrimSpace(string(ops)) + "/livez") //nolint:bodyclose // there is no answer
	require.Error(t, err)
}

func TestComplaints(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	var text strings.Builder
	text.WriteString(`{"level":"info","msg":"fine"}` + "\nno json\n" +
		`{"level":"error","msg":"thresholds on metrics 'x' have been crossed"}` + "\n")
	for i := range maxComplaints + 2 {
		line := fmt.Sprintf(`{"level":"error","msg":"broken: number %d\nmore"}`+"\n", i)
		text.WriteString(line + line)
	}
	require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o644))
	got, err := complaints(path)
	require.NoError(t, err)
	require.Len(t, got, maxComplaints+1)
	require.Equal(t, "number 0", got[0], "once, and without what follows")
	require.Contains(t, got[maxComplaints], "and 4 more")

	none, err := complaints(path + ".none")
	require.NoError(t, err)
	require.Empty(t, none)
}
