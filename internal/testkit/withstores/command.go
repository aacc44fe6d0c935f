package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"sluice/internal/testkit/servers"
)

// grace is how long the command has to end after the first signal.
const grace = 15 * time.Second

// runCommand runs cmd as the head of a process group of its own and passes signals on to the group.
// It returns the command's exit code, 128 + n if signal n ended it. No process of the group
// outlives it.
func runCommand(cmd *exec.Cmd, signals <-chan os.Signal, out io.Writer) (int, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	servers.DieWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	// Its parent is this very thread, which must not end before the command does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fmt.Fprintln(out, "withstores: running", strings.Join(cmd.Args, " "))
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("start the command: %w", err)
	}
	group := -cmd.Process.Pid
	defer func() { _ = syscall.Kill(group, syscall.SIGKILL) }()

	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var tooLong <-chan time.Time
	for {
		select {
		case err := <-done:
			return exitCode(err)
		case s := <-signals:
			if tooLong != nil { // the second signal means now
				s = syscall.SIGKILL
			} else {
				timer := time.NewTimer(grace)
				defer timer.Stop()
				tooLong = timer.C
			}
			fmt.Fprintf(out, "withstores: passing %q to the command\n", s)
			_ = syscall.Kill(group, s.(syscall.Signal))
		case <-tooLong:
			fmt.Fprintf(out, "withstores: the command did not end within %s, killing it\n", grace)
			_ = syscall.Kill(group, syscall.SIGKILL)
		}
	}
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}
