package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// maxSocketPath is the shortest limit of the supported systems (macOS
	// allows 104 bytes with the closing zero, Linux 108).
	maxSocketPath = 103

	minRestartDelay = 100 * time.Millisecond
	maxRestartDelay = 5 * time.Second
	steadyAfter     = 10 * time.Second // after so long a life, the restart delay begins anew
	termGrace       = 10 * time.Second // for SIGTERM before SIGKILL
)

// managedServer is a private redis-server, a child of this process. It syncs an append-only file at every write and is
// started again when it dies. It ends with this process, even when that is killed.
type managedServer struct {
	log      *slog.Logger
	binary   string
	dir      string // absolute
	password string // empty on a unix socket, which only this user may open
	lock     *dirLock
	output   *serverLog

	mu      sync.Mutex // guards the rest
	network string
	address string
	process *os.Process // nil while none runs

	stop  chan struct{} // closed by Close, while it has mu, so that no server starts after it
	ready chan struct{} // closed once the first start succeeded
	done  chan error    // gets the first start's failure or nil, when supervise ends
}

// startManaged starts the server with the state in dir and returns when it accepts connections. It may still be loading
// then. A dir that another process uses is an error.
func startManaged(ctx context.Context, dir string, log *slog.Logger) (*managedServer, error) {
	if version, err := serverVersion(ctx); err != nil {
		return nil, fmt.Errorf("redis-server %s cannot be used: %w", version, err)
	}
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m := &managedServer{
		log: log, binary: binary, dir: dir, output: newServerLog(log),
		stop: make(chan struct{}), ready: make(chan struct{}), done: make(chan error, 1),
	}
	if len(m.socket()) > maxSocketPath {
		m.password = randomPassword()
	}
	if m.lock, err = lockDir(ctx, dir); err != nil {
		return nil, err
	}
	go m.supervise()
	if err := m.awaitListening(ctx); err != nil {
		return nil, err
	}
	close(m.ready)
	m.output.started()
	return m, nil
}

func (m *managedServer) socket() string { return filepath.Join(m.dir, "redis.sock") }

// awaitListening returns when the first server answers; accepting a connection is not enough. On failure it stops
// everything and returns an error with the server's last log lines.
func (m *managedServer) awaitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if m.answers(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-m.done:
			m.done <- nil // for Close
			return errors.Join(err, m.Close())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("not listening yet: %w", ctx.Err()), m.Close())
		}
	}
}

// supervise runs the server, again after each death, until Close. The kernel ends the child with the thread that
// started it, so this goroutine is locked to its thread.
func (m *managedServer) supervise() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	delay := minRestartDelay
	for {
		begun := time.Now()
		err := m.run()
		select {
		case <-m.stop:
			m.done <- nil
			return
		default:
		}
		select {
		case <-m.ready:
		default:
			m.done <- fmt.Errorf("it did not start: %w; it said: %s", err, m.output.tail())
			return
		}
		if time.Since(begun) > steadyAfter {
			delay = minRestartDelay
		}
		m.log.Error("the managed redis-server died; starting it again", "error", err,
			"delay", delay, "said", m.output.tail())
		select {
		case <-time.After(delay):
		case <-m.stop:
			m.done <- nil
			return
		}
		delay = min(2*delay, maxRestartDelay)
	}
}

// run starts one server and returns when it has ended.
func (m *managedServer) run() error {
	cmd, err := m.start()
	if err != nil {
		return err
	}
	err = cmd.Wait()
	m.mu.Lock()
	m.process = nil
	m.mu.Unlock()
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return err
}

func (m *managedServer) start() (*exec.Cmd, error) {
	network, address, err := m.chooseAddress()
	if err != nil {
		return nil, err
	}
	// The configuration goes through standard input: it contains the password, and every user of the host can read
	// arguments.
	cmd := exec.Command(m.binary, "-") // #nosec G204 -- the redis-server found on this machine
	cmd.Dir = m.dir
	cmd.Stdin = strings.NewReader(m.conf(network, address))
	cmd.Stdout, cmd.Stderr = m.output, m.output
	// A forked rewrite of the file may keep the output open after the end.
	cmd.WaitDelay = time.Second
	// The child inherits the lock, so the folder stays locked until both processes have ended.
	cmd.ExtraFiles = []*os.File{m.lock.file}
	cmd.SysProcAttr = childAttr()

	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.stop:
		return nil, errors.New("closing")
	default:
	}
	if err := m.lock.write(network, address, m.password); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m.process, m.network, m.address = cmd.Process, network, address
	return cmd, nil
}

// Close stops the server by SIGTERM, which needs no free connection, and kills it after ten seconds. Then it unlocks
// the folder. It returns when the server has ended.
func (m *managedServer) Close() error {
	m.output.stopping()
	m.mu.Lock()
	close(m.stop)
	process := m.process
	m.mu.Unlock()
	if process != nil {
		m.signal(process, syscall.SIGTERM)
	}
	grace := time.NewTimer(termGrace)
	defer grace.Stop()
	select {
	case <-m.done:
	case <-grace.C:
		m.log.Error("the managed redis-server does not stop; killing it", "waited", termGrace)
		m.signal(process, syscall.SIGKILL)
		<-m.done
	}
	return m.lock.release()
}

func (m *managedServer) signal(process *os.Process, sig os.Signal) {
	if process == nil {
		return
	}
	if err := process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.log.Error("signal the managed redis-server", "signal", sig.String(), "error", err)
	}
}
