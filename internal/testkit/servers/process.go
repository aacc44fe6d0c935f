package servers

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// killPatience bounds the wait for a killed server's own children, which the
// kernel ends within milliseconds.
const killPatience = 5 * time.Second

// process is one running child.
type process struct {
	pid  int
	done chan struct{} // closed when the child has been reaped
	err  error         // how it ended; read only after done
}

// spawn starts cmd and owns it until it ends. The kernel ties "die with your parent" to the thread
// that forked. So one goroutine forks, keeps its thread to itself and waits on it. The thread
// cannot end while the child lives.
func spawn(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// ended reports whether the child is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the child and its own children at once, as a power cut would. It waits until the child
// is gone.
func (p *process) kill() {
	if p.ended() {
		return
	}
	// A stopped parent forks no more, so the list of children is complete.
	_ = syscall.Kill(p.pid, syscall.SIGSTOP)
	children := childrenOf(p.pid)
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.done
	awaitGone(children, killPatience)
}

// stop asks with sig and kills what has not ended after patience.
func (p *process) stop(sig syscall.Signal, patience time.Duration) error {
	if p.ended() {
		return nil
	}
	_ = syscall.Kill(p.pid, sig)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.kill()
		return fmt.Errorf("process %d did not end within %s of %s and was killed", p.pid, patience, sig)
	}
}

// logTail returns the end of a server's log, for error messages.
func logTail(path string) string {
	const most = 3000
	text, err := os.ReadFile(path) // #nosec G304 -- the log of a server of ours
	if err != nil {
		return "no log: " + err.Error()
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return string(text)
}
