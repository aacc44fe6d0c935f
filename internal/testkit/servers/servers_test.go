package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// asParent makes the test binary start one server of each kind and wait to be killed.
const asParent = "SERVERS_TEST_AS_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) == "1" {
		parent()
		return
	}
	goleak.VerifyTestMain(m)
}

type starter func(context.Context) (*Server, error)

func starters() []starter {
	return []starter{
		func(ctx context.Context) (*Server, error) { return Redis(ctx) },
		MySQL,
		Postgres,
		// starts without its server
		func(ctx context.Context) (*Server, error) { return PgBouncer(ctx, "127.0.0.1:1") },
	}
}

func parent() {
	for _, start := range starters() {
		s, err := start(context.Background())
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(s.PID(), s.Dir())
	}
	fmt.Println("up")
	select {}
}

func TestServersDieWithTheProcessThatStartedThem(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asParent+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var pids []int
	for {
		var first, dir string
		_, err := fmt.Fscan(out, &first)
		require.NoError(t, err)
		if first == "up" {
			break
		}
		pid, err := strconv.Atoi(first)
		require.NoError(t, err, first)
		_, err = fmt.Fscan(out, &dir)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
		pids = append(pids, pid)
	}
	require.Len(t, pids, len(starters()))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for _, pid := range pids {
		require.Eventually(t, func() bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(stat), ") Z ")
		}, 20*time.Second, 5*time.Millisecond, "process %d", pid)
	}
}

func TestAServersLife(t *testing.T) {
	t.Parallel()
	for _, start := range starters() {
		s, err := start(t.Context())
		require.NoError(t, err)
		t.Run(s.kind, func(t *testing.T) {
			require.Equal(t, "127.0.0.1", strings.Split(s.Addr(), ":")[0])
			first := s.PID()
			require.NoError(t, s.Start(t.Context()), "of a running server")
			require.Equal(t, first, s.PID())
			require.NoError(t, s.Stop())
			require.NoError(t, s.Stop(), "of a stopped server")
			s.Kill()
			require.Zero(t, s.PID())
			require.NoError(t, s.Start(t.Context()))
			require.NoError(t, s.Close())
			require.NoDirExists(t, s.Dir())
			require.ErrorIs(t, syscall.Kill(first, 0), syscall.ESRCH)
		})
	}
}

func TestAServerThatCannotStartShowsItsLog(t *testing.T) {
	t.Parallel()
	_, err := Redis(t.Context(), "--no-such-setting", "1")
	require.ErrorContains(t, err, "it ended while starting")
	require.ErrorContains(t, err, "no-such-setting")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Redis(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAPortTakenAfterTheFactIsNotMistakenForTheServer(t *testing.T) {
	t.Parallel()
	s, err := Redis(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	s.Kill()
	stranger, err := net.Listen("tcp", s.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = stranger.Close() })
	require.ErrorContains(t, s.Start(t.Context()), "Address already in use")
	require.NoError(t, stranger.Close())
	require.NoError(t, s.Start(t.Context()))
}

func TestFreePortsCanBeListenedOnAndAreNoClientsPorts(t *testing.T) {
	t.Parallel()
	for range 50 {
		port, err := FreePort()
		require.NoError(t, err)
		require.GreaterOrEqual(t, port, firstPort)
		require.Less(t, port, 32768)
	}
}

func TestFindSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := FindRedis()
	var missing *MissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, MissingError{Program: "redis-server", Package: "redis-server"}, *missing)
	require.ErrorContains(t, err, "apt-get install --no-install-recommends redis-server")
}

func TestTheNewestVersionComesFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, version := range []string{"9.6", "16", "15", "postgresql@17", "odd"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, version, "bin"), 0o755))
	}
	var names []string
	for _, path := range newestFirst(filepath.Join(dir, "*", "bin")) {
		names = append(names, filepath.Base(filepath.Dir(path)))
	}
	require.Equal(t, []string{"postgresql@17", "16", "15", "9.6", "odd"}, names)
}
