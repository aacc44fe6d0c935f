package main

import (
	"context"
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

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

// The first signal ends the context, the second one the process. The test runs
// alone: signals reach the whole process.
func TestSecondSignalAborts(t *testing.T) {
	t.Cleanup(func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })
	aborted := make(chan struct{})
	ctx := untilSignal(func() { close(aborted) })
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)

	require.NoError(t, self.Signal(syscall.SIGTERM))
	within(t, ctx.Done(), "the first signal did not end the context")
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.NoError(t, self.Signal(syscall.SIGTERM))
	within(t, aborted, "the second signal did not abort")
}

func within(t *testing.T, done <-chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		require.FailNow(t, otherwise)
	}
}

// Whatever the host has installed, the time zones of notify.time_zone are there.
func TestTimeZonesAreInTheBinary(t *testing.T) {
	deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	require.Contains(t, strings.Fields(string(deps)), "time/tzdata")
}
