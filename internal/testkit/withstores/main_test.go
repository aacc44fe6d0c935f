package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// asProgram makes the test binary behave as the program itself, so that tests
// can send it real signals.
const asProgram = "WITHSTORES_TEST_AS_PROGRAM"

// asCommand makes it behave as a command that the program runs.
const asCommand = "WITHSTORES_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asCommand) == "use":
		if m.Run() != 0 {
			os.Exit(1)
		}
		os.Exit(42) // a code that nothing else returns
	case os.Getenv(asCommand) == "wait":
		os.Exit(waitForSignal())
	case os.Getenv(asProgram) == "1":
		main()
	default:
		testkit.VerifyMain(m)
	}
}

// TestUseStores is also what the program runs as a command: it must find
// stores at the addresses that it was given.
func TestUseStores(t *testing.T) {
	for _, d := range testkit.Databases(t) {
		require.NotEmpty(t, d.DSN)
	}
	if os.Getenv(asCommand) == "use" {
		require.NotEmpty(t, os.Getenv("SLUICE_TEST_MYSQL_DSN"))
		require.NotEmpty(t, os.Getenv("SLUICE_TEST_POSTGRES_DSN"))
		require.Contains(t, os.TempDir(), "/sluice-")
	}
}

// waitForSignal returns 9 when one comes.
func waitForSignal() int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	fmt.Println("up")
	<-signals
	return 9
}

// program starts the program with own servers and the given command.
func program(t *testing.T, command ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"--"}, command...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1",
		"SLUICE_TEST_MYSQL_DSN=", "SLUICE_TEST_POSTGRES_DSN=", "TMPDIR="+folder(t))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewReader(out)
}

// folder is a temporary folder through which the servers' user may pass.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "w-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// readUntil returns the program's lines up to the one that contains mark.
func readUntil(t *testing.T, out *bufio.Reader, mark string) string {
	t.Helper()
	var all strings.Builder
	for {
		line, err := out.ReadString('\n')
		require.NoError(t, err, "waiting for %q after:\n%s", mark, all.String())
		all.WriteString(line)
		if strings.Contains(line, mark) {
			return all.String()
		}
	}
}

// requireGone checks that the servers and the folder named in text are gone.
func requireGone(t *testing.T, text string, folderToo bool) {
	t.Helper()
	var addrs int
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if _, addr, ok := strings.Cut(line, " on 127.0.0.1:"); ok {
			addrs++
			require.Eventually(t, func() bool {
				conn, err := net.Dial("tcp", "127.0.0.1:"+addr)
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			}, 20*time.Second, 10*time.Millisecond, line)
		}
		if _, dir, ok := strings.Cut(line, "temporary folder "); ok && folderToo {
			require.NoDirExists(t, dir)
		}
	}
	require.Equal(t, 2, addrs, "in:\n%s", text)
}

func TestACommandGetsItsStores(t *testing.T) {
	t.Parallel()
	cmd, out := program(t, "env", asCommand+"=use", os.Args[0], "-test.run=^TestUseStores$", "-test.v")
	text, err := io.ReadAll(out)
	require.NoError(t, err)
	_ = cmd.Wait()
	require.Equal(t, 42, cmd.ProcessState.ExitCode(), "%s", text)
	require.Contains(t, string(text), "--- PASS: TestUseStores")
	requireGone(t, string(text), true)
}

func TestASignalReachesTheCommandAndAllIsCleared(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd, out := program(t, "env", asCommand+"=wait", os.Args[0])
		text := readUntil(t, out, "up")
		require.NoError(t, cmd.Process.Signal(sig))
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		_ = cmd.Wait()
		require.Equal(t, 9, cmd.ProcessState.ExitCode(), "%s%s", text, rest)
		requireGone(t, text, true)
	}
}

func TestASignalDuringPreparationStops(t *testing.T) {
	t.Parallel()
	cmd, out := program(t, "echo", "must not run")
	text := readUntil(t, out, "temporary folder")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	_ = cmd.Wait()
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.NotContains(t, text+string(rest), "must not run")
	dir := strings.TrimSpace(text[strings.LastIndex(text, " ")+1:])
	require.NoDirExists(t, dir)
}

// Only Linux ends the children of a process that is killed.
func TestTheServersDieWithTheProgram(t *testing.T) {
	t.Parallel()
	cmd, out := program(t, "sh", "-c", "echo up; exec sleep 1000")
	text := readUntil(t, out, "up")
	require.NoError(t, cmd.Process.Kill())
	_, err := io.ReadAll(out) // ends when the command has died as well
	require.NoError(t, err)
	_ = cmd.Wait()
	requireGone(t, text, false)
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--"}} {
		var out, errOut bytes.Buffer
		require.Equal(t, 2, run(t.Context(), args, nil, &out, &errOut))
		require.Contains(t, errOut.String(), "usage:")
	}
}

func TestTheDeathOfTheParentIsASignal(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := make(chan int, 3)
	answers <- 10
	answers <- 10
	answers <- 1
	signals := make(chan os.Signal, 1)
	watchParent(ctx, func() int { return <-answers }, time.Millisecond, signals)
	require.Equal(t, syscall.SIGTERM, <-signals)
}

func TestACommandThatWantsOnlyRedisGetsNoServers(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "--redis", "--", "sh", "-c", "echo command; exit 7")
	cmd.Env = append(os.Environ(), asProgram+"=1", "SLUICE_TEST_MYSQL_DSN=", "SLUICE_TEST_POSTGRES_DSN=",
		"TMPDIR="+folder(t))
	text, err := cmd.Output()
	require.Error(t, err)
	require.Equal(t, 7, cmd.ProcessState.ExitCode())
	require.Contains(t, string(text), "\ncommand\n")
	require.NotContains(t, string(text), "started")
}
