package redis

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ownerEnv makes the test binary open a managed Redis in a folder and wait to be killed.
const ownerEnv = "SLUICE_TEST_MANAGED_OWNER"

func TestManagedOwner(t *testing.T) {
	dir := os.Getenv(ownerEnv)
	if dir == "" {
		return // only a helper for the test below
	}
	r := openRedis(t, managedConfig(dir))
	require.NoError(t, r.Client.Set(t.Context(), "order", "42", 0).Err())
	// Threads end meanwhile: none of them may end the server.
	for range 20 {
		done := make(chan struct{})
		go func() { runtime.LockOSThread(); close(done) }()
		<-done
	}
	require.NoError(t, r.Ping(t.Context()))
	fmt.Println("pid", managedPID(t, r))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestManagedDiesWithItsKilledOwner(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	owner := exec.Command(os.Args[0], "-test.run=^TestManagedOwner$", "-test.count=1")
	owner.Env = append(os.Environ(), ownerEnv+"="+dir)
	owner.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := owner.StdinPipe()
	require.NoError(t, err)
	defer stdin.Close() //nolint:errcheck // the reader is dead
	stdout, err := owner.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, owner.Start())
	pid := readPID(t, stdout)

	// Ctrl-C signals the whole group; the server is in another.
	group, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	require.NotEqual(t, owner.Process.Pid, group)

	require.NoError(t, owner.Process.Kill())
	require.Error(t, owner.Wait())
	require.Eventually(t, func() bool { return gone(pid) || zombie(pid) }, 10*time.Second, 20*time.Millisecond)

	r := openRedis(t, managedConfig(dir))
	require.Equal(t, "42", r.Client.Get(t.Context(), "order").Val())
	require.NoError(t, r.Close())
}

// zombie reports whether the process has ended and was not waited for.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func readPID(t *testing.T, from io.Reader) int {
	t.Helper()
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		var pid int
		if _, err := fmt.Sscanf(lines.Text(), "pid %d", &pid); err == nil {
			return pid
		}
	}
	t.Fatalf("the owner ended without a server: %v", lines.Err())
	return 0
}
