package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"sluice/internal/testkit/servers"
)

const (
	startPatience = 30 * time.Second
	stopPatience  = 60 * time.Second
)

// Process is a started program. It ends with this process.
type Process struct {
	cmd     *exec.Cmd
	logFile string
	done    chan struct{}
	err     error
}

// start runs a program and returns when ready returns true for a line of its standard error.
func (l *Lab) start(ctx context.Context, cmd *exec.Cmd, ready func(line string) bool) (*Process, error) {
	dir, err := l.folder(filepath.Base(cmd.Path))
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, logFile: filepath.Join(dir, "log"), done: make(chan struct{})}
	log, err := os.Create(p.logFile)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	servers.DieWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	started := make(chan error, 1)
	go func() {
		// "Die with your parent" means the thread that forked: it must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	if err := p.await(ctx, ready); err != nil {
		p.kill()
		return nil, fmt.Errorf("%s: %w; its log ends:\n%s", filepath.Base(cmd.Path), err, p.tail())
	}
	return p, nil
}

// await reads the log until ready returns true for a line.
func (p *Process) await(ctx context.Context, ready func(string) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := p.inLog(ready)
		if found || err != nil {
			return err
		}
		select {
		case <-p.done:
			return fmt.Errorf("ended while starting: %v", p.err)
		case <-ctx.Done():
			return fmt.Errorf("did not say that it runs within %s", startPatience)
		case <-tick.C:
		}
	}
}

func (p *Process) inLog(ready func(string) bool) (bool, error) {
	f, err := os.Open(p.logFile)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if ready(lines.Text()) {
			return true, nil
		}
	}
	return false, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop sends SIGTERM. Anything but exit code 0 in time is an error.
func (p *Process) Stop() error {
	_ = syscall.Kill(p.PID(), syscall.SIGTERM)
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM; its log ends:\n%s", p.cmd.Path, stopPatience, p.tail())
	}
	if p.err != nil {
		return fmt.Errorf("%s ended with %w; its log ends:\n%s", p.cmd.Path, p.err, p.tail())
	}
	return nil
}

func (p *Process) kill() {
	_ = syscall.Kill(p.PID(), syscall.SIGKILL)
	<-p.done
}

func (p *Process) tail() string {
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}
