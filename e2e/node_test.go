package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sluice/internal/testkit/servers"
)

// node is one process of the system under test with a supervisor that starts
// it again whenever it ends, as an init system would.
type node struct {
	name, binary, roles string
	env                 []string
	config              string // file, empty for none
	logPath             string

	fault sync.Mutex // held by the fault that has this node

	mu       sync.Mutex
	life     *life
	arm      string        // SLUICE_TEST_KILL of the next life
	pause    time.Duration // before the next life
	draining bool          // a SIGTERM of ours is under way
	died     time.Time     // when a kill point was last passed
	points   []string      // kill points passed
	exits    []string      // ends that nothing of ours explains
	killed   int           // SIGKILLs of ours
	misfires int           // starts that failed
}

// life is one run of the process.
type life struct {
	cmd      *exec.Cmd
	running  chan struct{} // closed when it says that it runs
	done     chan struct{} // closed when it has been reaped
	arm      string
	up       bool
	http     string
	ops      string
	work     string // for other systems; empty without such a listener
	err      error
	ours     bool // we sent it SIGKILL or SIGTERM
	signaled syscall.Signal
	code     int
}

const restartPause = 200 * time.Millisecond

// supervise keeps the node running until ctx ends, and returns when the last
// process is gone.
func (n *node) supervise(ctx context.Context) error {
	for ctx.Err() == nil {
		l, err := n.launch()
		if err != nil {
			return err
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			n.signal(syscall.SIGKILL)
			<-l.done
			return nil
		}
		pause := n.buried(l)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil
}

// buried notes how a life ended and returns the pause before the next.
func (n *node) buried(l *life) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	pause := n.pause
	n.pause, n.draining = restartPause, false
	switch {
	case l.ours:
	case l.arm != "" && l.signaled == syscall.SIGKILL:
		n.points = append(n.points, l.arm+"@"+n.name)
		n.died = time.Now()
	case !l.up && l.signaled == 0:
		n.misfires++ // a store may be away
	default:
		n.exits = append(n.exits, fmt.Sprintf("%s ended by itself: %v", n.name, l.err))
	}
	return pause
}

// launch starts a life; it runs when its channel says so.
func (n *node) launch() (*life, error) {
	log, err := os.OpenFile(n.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &life{running: make(chan struct{}), done: make(chan struct{}), arm: n.arm}
	n.arm = ""
	cmd := exec.Command(n.binary, "serve", "--role", n.roles, "--config", n.config)
	cmd.Env = append(slices.Clone(n.env), "PATH="+os.Getenv("PATH"), "SLUICE_TEST_KILL="+l.arm)
	cmd.Stdout, cmd.Stderr = log, &announcement{to: log, life: l, node: n}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	servers.DieWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	l.cmd = cmd
	fmt.Fprintf(log, "---- start, armed with %q\n", l.arm)
	started := make(chan error, 1)
	go func() {
		// "Die with your parent" means the thread that forked: it must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			log.Close()
			return
		}
		l.end(cmd.Wait())
		fmt.Fprintf(log, "---- end: %v\n", l.err)
		log.Close()
		close(l.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	n.life = l
	return l, nil
}

func (l *life) end(err error) {
	l.err = err
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		l.code = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			l.signaled = status.Signal()
		}
	}
}

// signal sends sig to the current life, unless it has ended, and returns it.
func (n *node) signal(sig syscall.Signal) *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.life
	if l == nil {
		return nil
	}
	select {
	case <-l.done:
		return l
	default:
	}
	if sig == syscall.SIGKILL || sig == syscall.SIGTERM {
		l.ours = true
	}
	if sig == syscall.SIGKILL {
		n.killed++
	}
	_ = syscall.Kill(l.cmd.Process.Pid, sig)
	return l
}

// restart kills the node now; its next life begins after pause, armed with arm.
func (n *node) restart(pause time.Duration, arm string) *life {
	n.mu.Lock()
	n.pause, n.arm = pause, arm
	n.mu.Unlock()
	return n.signal(syscall.SIGKILL)
}

// hold keeps the next life from beginning for a while.
func (n *node) hold(pause time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pause = pause
}

// record returns the history of the node so far.
func (n *node) record() (points, exits []string, killed int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.points), slices.Clone(n.exits), n.killed
}

// addresses returns the addresses of the running process, empty until it runs.
func (n *node) addresses() (http, ops string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.life == nil || !n.life.up {
		return "", ""
	}
	return n.life.http, n.life.ops
}

// workAddr returns where the running process answers other systems, empty until it runs.
func (n *node) workAddr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.life == nil || !n.life.up {
		return ""
	}
	return n.life.work
}

func (n *node) current() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

// announcement copies a log and reads the line that names the addresses.
type announcement struct {
	to   io.Writer
	life *life
	node *node
	text strings.Builder
}

func (a *announcement) Write(p []byte) (int, error) {
	if !a.life.up { // written here only
		a.text.Write(p)
		for line := range strings.Lines(a.text.String()) {
			var said struct{ Msg, HTTP, Ops, Work string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "sluice is running" {
				a.node.mu.Lock()
				a.life.up, a.life.http, a.life.ops, a.life.work = true, said.HTTP, said.Ops, said.Work
				a.node.mu.Unlock()
				close(a.life.running)
				break
			}
		}
	}
	return a.to.Write(p)
}
