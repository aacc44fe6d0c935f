package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -KILL $$": 137} {
		var out bytes.Buffer
		code, err := runCommand(exec.Command("sh", "-c", script), nil, &out)
		require.NoError(t, err)
		require.Equal(t, want, code, script)
	}
	_, err := runCommand(exec.Command(filepath.Join(t.TempDir(), "none")), nil, &bytes.Buffer{})
	require.ErrorContains(t, err, "start the command")
}

func TestNoProcessOfTheGroupOutlivesTheCommand(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	code, err := runCommand(exec.Command("sh", "-c", "sleep 1000 & echo $! > "+file), nil, &bytes.Buffer{})
	require.NoError(t, err)
	require.Zero(t, code)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, 10*time.Second, time.Millisecond)
}

func TestASecondSignalKills(t *testing.T) {
	t.Parallel()
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGTERM
	signals <- syscall.SIGTERM
	code, err := runCommand(exec.Command("sh", "-c", "trap '' TERM; while :; do sleep 1; done"), signals,
		&bytes.Buffer{})
	require.NoError(t, err)
	require.Contains(t, []int{128 + 15, 128 + 9}, code) // TERM may come before the trap
}
