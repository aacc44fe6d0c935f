package testkit

import (
	"syscall"
	"testing"

	"sluice/internal/testkit/servers"
)

// handle is what every private server offers. Its methods belong to the
// goroutine that runs the test, because they end the test if they fail.
type handle struct {
	t      testing.TB
	server *servers.Server
}

// own ties a freshly started server to the life of the test.
func own(t testing.TB, server *servers.Server, err error) handle {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return handle{t: t, server: server}
}

// Addr returns the server's host:port; it stays the same over Kill and Start.
func (h handle) Addr() string { return h.server.Addr() }

// PID returns the server's process id, 0 while it is down.
func (h handle) PID() int { return h.server.PID() }

// Kill ends the server with SIGKILL, as a crash would, and returns when it is gone.
func (h handle) Kill() { h.server.Kill() }

// Start starts the server again on the same port and data, and returns when it
// answers. It does nothing while the server runs.
func (h handle) Start() {
	h.t.Helper()
	if err := h.server.Start(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// Stop ends the server in an orderly way.
func (h handle) Stop() {
	h.t.Helper()
	if err := h.server.Stop(); err != nil {
		h.t.Fatal(err)
	}
}

// Hang makes the server stand still until Wake, or the end of the test. Its connections stay open.
func (h handle) Hang() {
	h.t.Helper()
	if err := syscall.Kill(h.PID(), syscall.SIGSTOP); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.Wake)
}

// Wake lets a server go on that hangs.
func (h handle) Wake() { _ = syscall.Kill(h.PID(), syscall.SIGCONT) }
