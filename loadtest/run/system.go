package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startWithin = time.Minute
	stopWithin  = time.Minute
)

// system is the Sluice under test: one process with all roles, Redis as its private child.
type system struct {
	binary, dir   string
	env           []string
	secret        string
	paymentSecret string // empty if this Sluice has no payments

	cmd       *exec.Cmd
	running   chan struct{} // closed when said is complete
	said      announcement
	done      chan struct{} // closed when the process has been reaped
	exit      error
	stopOnce  sync.Once
	stopError error
}

// announcement is the log line that says that Sluice runs.
type announcement struct {
	Msg, Version, HTTP, Ops, Redis, Durability, Database string
}

// startSystem builds Sluice and starts it on free ports with empty stores.
func startSystem(ctx context.Context, opt options, out io.Writer) (*system, error) {
	state := filepath.Join(opt.dir, "state")
	if err := os.RemoveAll(state); err != nil {
		return nil, fmt.Errorf("empty the state folder: %w", err)
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	s := &system{binary: filepath.Join(opt.dir, "sluice"), dir: opt.dir, running: make(chan struct{}),
		done: make(chan struct{})}
	fmt.Fprintln(out, "loadtest: building sluice")
	// #nosec G204 -- into a folder of our own
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", s.binary, ".")
	build.Dir, build.Env = opt.source, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build sluice in %s: %w\n%s", opt.source, err, text)
	}
	if err := s.configure(ctx, opt, state); err != nil {
		return nil, err
	}
	if err := s.launch(); err != nil {
		return nil, err
	}
	timer := time.NewTimer(startWithin)
	defer timer.Stop()
	select {
	case <-s.running:
		return s, nil
	case <-s.done:
		return nil, fmt.Errorf("sluice did not start: %w, see %s", s.exit, s.logPath())
	case <-timer.C:
		return nil, errors.Join(fmt.Errorf("sluice did not start within %s, see %s", startWithin, s.logPath()),
			s.kill())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.kill())
	}
}

// configure builds the environment of the process. It drops SLUICE_ variables of this process, which must not change
// the measurement.
func (s *system) configure(ctx context.Context, opt options, state string) error {
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return err
	}
	s.secret = hex.EncodeToString(raw)
	dsn := opt.dsn
	if dsn == "" {
		dsn = filepath.Join(state, "sluice.db")
	}
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "SLUICE_") {
			s.env = append(s.env, pair)
		}
	}
	s.env = append(s.env, "SLUICE_AUTH__SECRET="+s.secret, "SLUICE_HTTP__ADDR=127.0.0.1:0",
		"SLUICE_OPS__ADDR=127.0.0.1:0",
		"SLUICE_REDIS__DIR="+filepath.Join(state,
			"redis"), "SLUICE_DATABASE__DRIVER="+opt.driver, "SLUICE_DATABASE__DSN="+dsn,
		"SLUICE_LOG__FORMAT=json", "SLUICE_LOG__LEVEL=info")
	keys, err := s.command(ctx, "config", "print", "--json").Output()
	if err != nil {
		return fmt.Errorf("ask sluice for its configuration: %w", err)
	}
	if bytes.Contains(keys, []byte(`"payment.secret"`)) {
		s.paymentSecret = "whsec_" + base64.StdEncoding.EncodeToString(raw)
		s.env = append(s.env, "SLUICE_PAYMENT__SECRET="+s.paymentSecret)
	}
	return nil
}

func (s *system) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary, args...) // #nosec G204 -- the binary built below
	cmd.Env = s.env
	return cmd
}

func (s *system) logPath() string { return filepath.Join(s.dir, "sluice.log") }

func (s *system) launch() error {
	log, err := os.Create(s.logPath())
	if err != nil {
		return fmt.Errorf("open the log of sluice: %w", err)
	}
	// Not bound to a context: it is stopped after the last audit.
	s.cmd = exec.Command(s.binary, "serve") // #nosec G204 -- the binary built below
	s.cmd.Env = s.env
	s.cmd.Stdout, s.cmd.Stderr = log, &listener{to: log, s: s}
	if err := s.cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start sluice: %w", err), log.Close())
	}
	go func() {
		defer close(s.done)
		s.exit = errors.Join(s.cmd.Wait(), log.Close())
	}()
	return nil
}

// listener copies the log and finds the line with the addresses.
type listener struct {
	to   io.Writer
	s    *system
	text []byte
	done bool
}

func (l *listener) Write(p []byte) (int, error) {
	if !l.done {
		l.text = append(l.text, p...)
		for line := range bytes.Lines(l.text) {
			var said announcement
			if json.Unmarshal(line, &said) == nil && said.Msg == "sluice is running" {
				l.s.said, l.done, l.text = said, true, nil
				close(l.s.running)
				break
			}
		}
	}
	return l.to.Write(p)
}

// alive returns an error if the process has ended.
func (s *system) alive() error {
	select {
	case <-s.done:
		return fmt.Errorf("sluice ended by itself: %v, see %s", s.exit, s.logPath())
	default:
		return nil
	}
}

// stop stops the process as an operator would, and returns what went wrong.
func (s *system) stop() error {
	s.stopOnce.Do(func() {
		if s.stopError = s.alive(); s.stopError != nil {
			return
		}
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(stopWithin)
		defer timer.Stop()
		select {
		case <-s.done:
			if s.exit != nil {
				s.stopError = fmt.Errorf("sluice did not stop in order: %w, see %s", s.exit, s.logPath())
			}
		case <-timer.C:
			s.stopError = fmt.Errorf("sluice did not stop within %s of SIGTERM, see %s", stopWithin, s.logPath())
		}
	})
	return s.stopError
}

// kill kills whatever still runs.
func (s *system) kill() error {
	if s.stop() == nil || s.alive() != nil {
		return nil
	}
	err := s.cmd.Process.Kill()
	<-s.done
	return err
}
