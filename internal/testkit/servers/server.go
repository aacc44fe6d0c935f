package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startPatience = 60 * time.Second // a cold start on a busy two-core machine
	stopPatience  = 20 * time.Second
	pollEvery     = 10 * time.Millisecond
	portAttempts  = 4 // another process can take a free port before the server does
)

// recipe is what distinguishes one kind of server from another.
type recipe struct {
	kind    string                                     // for messages and folder names
	host    Host                                       // where it runs
	prepare func(ctx context.Context, s *Server) error // makes the data folder; nil if the server does
	// writes what names the port, at each start; nil if nothing does
	configure  func(s *Server) error
	command    func(s *Server) (program string, a []string) // how to start it
	ready      func(ctx context.Context, s *Server) error   // nil once this very server answers
	credential *syscall.Credential                          // whom to run as; nil is ourselves
	quit       syscall.Signal                               // asks for an orderly end
	orphaned   syscall.Signal                               // sent when our process dies
}

// Server is one private server. Kill, Start and Stop may be called from any goroutine, one after
// another. The port and the data stay the same.
type Server struct {
	recipe
	dir  string
	port int

	mu   sync.Mutex
	proc *process
}

// launch makes a folder, prepares it and starts the server on a free port.
func launch(ctx context.Context, r recipe) (*Server, error) {
	dir, err := os.MkdirTemp("", r.kind+"-")
	if err != nil {
		return nil, fmt.Errorf("folder for %s: %w", r.kind, err)
	}
	s := &Server{recipe: r, dir: dir}
	if err := s.first(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) first(ctx context.Context) error {
	if s.credential != nil {
		if err := os.Chown(s.dir, int(s.credential.Uid), int(s.credential.Gid)); err != nil {
			return fmt.Errorf("give %s's folder to its user: %w", s.kind, err)
		}
	}
	if s.prepare != nil {
		if err := s.prepare(ctx, s); err != nil {
			return fmt.Errorf("prepare %s: %w", s.kind, err)
		}
	}
	for attempt := 1; ; attempt++ {
		port, err := FreePort()
		if err != nil {
			return err
		}
		s.port = port
		err = s.Start(ctx)
		if err == nil || attempt == portAttempts || !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
	}
}

// Addr returns host:port.
func (s *Server) Addr() string { return fmt.Sprintf("%s:%d", s.host.address(), s.port) }

// Port returns where the server listens; it stays the same over Kill and Start.
func (s *Server) Port() int { return s.port }

// Dir returns the server's folder.
func (s *Server) Dir() string { return s.dir }

// PID returns the server's process id, 0 while it is down.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.proc.ended() {
		return 0
	}
	return s.proc.pid
}

// Start starts the server on its port and its data and returns when it answers.
// It does nothing if the server runs already.
func (s *Server) Start(ctx context.Context) error { return s.StartWith(ctx) }

// StartWith starts the server with further arguments, which count until it ends.
func (s *Server) StartWith(ctx context.Context, extra ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil && !s.proc.ended() {
		return nil
	}
	// #nosec G302 -- a server that runs as another user is read by whoever tests
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("log of %s: %w", s.kind, err)
	}
	defer log.Close() // the child holds its own descriptor
	if s.configure != nil {
		if err := s.configure(s); err != nil {
			return fmt.Errorf("configure %s: %w", s.kind, err)
		}
	}
	program, args := s.command(s)
	cmd := s.cmd(program, slices.Concat(args, extra)...)
	cmd.Stdout, cmd.Stderr = log, log
	if s.proc, err = spawn(cmd); err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	if err := s.await(ctx); err != nil {
		s.proc.kill()
		return fmt.Errorf("%s on %s: %w; its log ends:\n%s", s.kind, s.Addr(), err, logTail(s.log()))
	}
	return nil
}

// await polls until the server answers, ends, or patience is over.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := s.ready(ctx, s)
		if err == nil {
			return nil
		}
		select {
		case <-s.proc.done:
			return fmt.Errorf("it ended while starting: %v", s.proc.err)
		case <-ctx.Done():
			return fmt.Errorf("it did not answer within %s: %w", startPatience, err)
		case <-tick.C:
		}
	}
}

// Kill ends the server with SIGKILL and returns when it is gone. Killing a
// server that is down does nothing.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		s.proc.kill()
	}
}

// Stop ends the server in an orderly way; one that takes over 20 s is killed
// and reported.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	if err := s.proc.stop(s.quit, stopPatience); err != nil {
		return fmt.Errorf("stop %s: %w", s.kind, err)
	}
	return nil
}

// Close kills the server and removes its folder. The server cannot be used again.
func (s *Server) Close() error {
	s.Kill()
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the folder of %s: %w", s.kind, err)
	}
	return nil
}

func (s *Server) log() string { return filepath.Join(s.dir, "server.log") }

// cmd runs a program as the server's user, in its folder, bound to our life.
func (s *Server) cmd(program string, args ...string) *exec.Cmd {
	program, args = s.host.command(program, args)
	cmd := exec.Command(program, args...) // #nosec G204 -- a server that we found
	cmd.Dir = s.dir
	cmd.Env = environment(s.dir)
	// Its own group: an interrupt typed at the terminal is ours to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential, Setpgid: true}
	DieWithParent(cmd.SysProcAttr, s.orphaned)
	return cmd
}

// once runs a preparing program to its end and shows its output if it fails.
func (s *Server) once(ctx context.Context, program string, args ...string) error {
	log, err := os.Create(s.log())
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.cmd(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := spawn(cmd)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w; it said:\n%s", program, p.err, logTail(s.log()))
	}
	return nil
}

// TakeOver ends the server and goes on, at its address, with the data of another. The other is
// stopped in an orderly way and cannot be used again.
func (s *Server) TakeOver(ctx context.Context, from *Server) error {
	s.Kill()
	if err := from.Stop(); err != nil {
		return err
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the folder of %s: %w", s.kind, err)
	}
	s.mu.Lock()
	s.dir, from.dir = from.dir, "" // closing the other removes nothing any more
	s.mu.Unlock()
	return s.Start(ctx)
}
