// Package server has the HTTP servers. It has listeners with bounds and TLS, the engine with its middleware, and the
// handling of panics.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"sluice/gateway/express"
)

// Server serves HTTP on one listener.
type Server struct{ server }

// server is the common part of an express.Server and an http.Server.
type server interface {
	Serve(ln net.Listener) error
	Shutdown(ctx context.Context) error
	Close() error
}

// NewServer returns a Server with every timeout and bound of cfg. So a slow or huge request costs one connection for a
// bounded time. With encrypted it serves HTTPS. If cfg has Express on, requests for which plain is true are served by
// package express. plain may be nil.
func NewServer(cfg HTTPConfig, h http.Handler, encrypted *tls.Config, plain func(method, path string) bool,
	log *slog.Logger) *Server {
	whole := &http.Server{
		Handler:           h,
		TLSConfig:         encrypted,
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		ReadTimeout:       cfg.ReadTimeout,
		WriteTimeout:      cfg.WriteTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    cfg.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	if plain != nil && cfg.Express && encrypted == nil {
		return &Server{express.New(whole, plain, cfg.MaxConns)}
	}
	return &Server{netHTTP{whole, cfg.MaxConns}}
}

// netHTTP is net/http alone.
type netHTTP struct {
	*http.Server
	maxConns int
}

// Serve serves with a bound on open connections.
func (s netHTTP) Serve(ln net.Listener) error {
	if s.maxConns > 0 {
		ln = netutil.LimitListener(ln, s.maxConns)
	}
	if s.TLSConfig != nil {
		return s.ServeTLS(ln, "", "")
	}
	return s.Server.Serve(ln)
}

// Listen listens on addr; port 0 means any free port.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return ln, nil
}

// Serve serves on ln until Shutdown. Then it returns nil at once, while requests may still be running. Clients beyond
// the bound on connections wait in the kernel's backlog.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown stops accepting and lets running requests finish for at most grace. Then it interrupts the rest and returns
// an error. End streams first, because they do not end by themselves.
func (s *Server) Shutdown(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("requests still ran after the grace period of %s and were cut off: %w", grace,
		err), s.Close())
}
