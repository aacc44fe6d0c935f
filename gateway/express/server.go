package express

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves plain requests with the handler of an http.Server, and everything else through that server, with the
// same timeouts. A handler of a plain request writes one answer of moderate size. It cannot flush, hijack or move
// deadlines. Its context does not end when the client leaves; its method HasLeft tells.
type Server struct {
	whole  *http.Server
	plain  func(method, path string) bool
	slots  chan struct{} // one element for each open connection; nil: no bound
	spare  sync.Pool     // of *exchange
	date   clock
	handed *handover

	mu       sync.Mutex
	listener net.Listener
	open     map[*conn]struct{}
	ended    sync.WaitGroup
	closing  atomic.Bool
	stop     chan struct{} // closed with closing
}

// New returns a server for plain TCP. plain says by method and path which requests are served here; it must exclude
// streams and long polls. maxConns bounds open connections, including those handed over. Further clients wait in the
// kernel's backlog. 0 means no bound.
func New(whole *http.Server, plain func(method, path string) bool, maxConns int) *Server {
	stop := make(chan struct{})
	s := &Server{whole: whole, plain: plain, open: make(map[*conn]struct{}), stop: stop,
		handed: &handover{conns: make(chan net.Conn), stop: stop}}
	s.spare.New = func() any { return newExchange() }
	if maxConns > 0 {
		s.slots = make(chan struct{}, maxConns)
	}
	return s
}

// Serve serves on ln, which must be TCP, until Shutdown or Close. Then it returns http.ErrServerClosed at once, while
// requests may still be running. Called after either, it closes ln and serves nothing. Call it once.
func (s *Server) Serve(ln net.Listener) error {
	if !s.listenOn(ln) {
		return http.ErrServerClosed
	}
	whole := make(chan error, 1)
	go func() { whole <- s.whole.Serve(s.handed) }()
	err := s.accept(ln)
	if s.closing.Load() {
		err = http.ErrServerClosed
	}
	s.refuse()
	if end := <-whole; !errors.Is(end, http.ErrServerClosed) && !errors.Is(end, net.ErrClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// listenOn registers ln to be closed by a stop. It returns false when the server is stopped already.
func (s *Server) listenOn(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		_ = ln.Close()
		return false
	}
	s.listener, s.handed.addr = ln, ln.Addr()
	return true
}

func (s *Server) accept(ln net.Listener) error {
	var pause time.Duration
	for s.acquireSlot() {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.adopt(c)
			continue
		case s.closing.Load() || !temporary(err):
			s.releaseSlot()
			return err
		}
		s.releaseSlot()
		// Like net/http, go on after running out of file descriptors.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.whole.ErrorLog.Printf("accept: %v; again in %v", err, pause)
		select {
		case <-time.After(pause):
		case <-s.stop:
		}
	}
	return http.ErrServerClosed
}

// temporary reports whether accepting may succeed after an error.
func temporary(err error) bool {
	var e interface{ Temporary() bool }
	return errors.As(err, &e) && e.Temporary()
}

// acquireSlot waits for a connection's slot. It returns false when the server stops.
func (s *Server) acquireSlot() bool {
	if s.slots == nil {
		return !s.closing.Load()
	}
	select {
	case s.slots <- struct{}{}:
		return true
	case <-s.stop:
		return false
	}
}

func (s *Server) releaseSlot() {
	if s.slots != nil {
		<-s.slots
	}
}

// adopt starts serving a connection, or gives one that is not TCP to net/http.
func (s *Server) adopt(c net.Conn) {
	client, err := newConn(s, c)
	if err != nil {
		s.handed.pass(&handedConn{Conn: c, releaseSlot: s.releaseSlot})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		_ = c.Close()
		s.releaseSlot()
		return
	}
	s.open[client] = struct{}{}
	s.ended.Go(client.serve)
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// refuse stops accepting connections and requests.
func (s *Server) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.CompareAndSwap(false, true) {
		close(s.stop)
	}
	if s.listener != nil {
		_ = s.listener.Close()
	}
	for c := range s.open {
		c.endIdle()
	}
}

// Shutdown stops accepting and lets running requests finish until ctx ends. It returns ctx.Err() if some have not;
// Close then interrupts them.
func (s *Server) Shutdown(ctx context.Context) error {
	s.refuse()
	done := make(chan struct{})
	go func() {
		s.ended.Wait()
		close(done)
	}()
	err := s.whole.Shutdown(ctx)
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close interrupts every connection and returns when no handler of a plain request runs.
func (s *Server) Close() error {
	s.refuse()
	s.mu.Lock()
	for c := range s.open {
		c.cutOff()
	}
	s.mu.Unlock()
	err := s.whole.Close()
	s.ended.Wait()
	return err
}
