package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// NewServer sets every timeout and bound of cfg, so that a slow or huge request costs one connection for a known time.
func NewServer(cfg HTTPConfig, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		ReadTimeout:       cfg.ReadTimeout,
		WriteTimeout:      cfg.WriteTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    cfg.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// Listen binds addr; port 0 picks a free one. maxConns bounds open connections, 0 does not; clients beyond it wait in
// the kernel's backlog until a connection ends.
func Listen(ctx context.Context, addr string, maxConns int) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if maxConns > 0 {
		ln = netutil.LimitListener(ln, maxConns)
	}
	return ln, nil
}

// Serve answers on ln until Shutdown, and then returns nil at once, while requests may still be running. With a TLSConfig
// it speaks HTTPS.
func Serve(srv *http.Server, ln net.Listener) error {
	serve := srv.Serve
	if srv.TLSConfig != nil {
		serve = func(ln net.Listener) error { return srv.ServeTLS(ln, "", "") }
	}
	if err := serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown stops accepting, lets running requests finish for at most grace, and then cuts the rest off and says so.
// Streams do not end by themselves: end them first.
func Shutdown(ctx context.Context, srv *http.Server, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := srv.Shutdown(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("requests still ran after the grace period of %s and were cut off: %w", grace, err), srv.Close())
}

// HoldOpen gives the current request d more to be answered: once for a long poll, before each write for an event
// stream. Without it http.write_timeout cuts the answer off, and nobody but the client notices.
func HoldOpen(w http.ResponseWriter, d time.Duration) error {
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("extend the write deadline: %w", err)
	}
	return nil
}
