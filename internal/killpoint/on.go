//go:build killpoints

// Package killpoint names the steps between which a process may die. Built with the tag killpoints, a process kills
// itself at a chosen step. Releases are built without it, and a step costs nothing.
package killpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// passed counts how often the armed step was passed.
var passed atomic.Int64

// Pass marks a step. With SLUICE_TEST_KILL=step:n in the environment, the n-th pass of that step kills this process
// like kill -9. No deferred call runs.
func Pass(step string) {
	armed, n, ok := strings.Cut(os.Getenv("SLUICE_TEST_KILL"), ":")
	if !ok || armed != step {
		return
	}
	at, err := strconv.ParseInt(n, 10, 64)
	if err != nil || passed.Add(1) != at {
		return
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		os.Exit(137)
	}
	select {} // wait for the signal
}
