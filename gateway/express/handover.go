package express

import (
	"net"
	"sync"
)

// handover is the listener from which net/http takes the connections that are
// not plain.
type handover struct {
	conns chan net.Conn
	stop  chan struct{}
	addr  net.Addr
}

// pass gives a connection to net/http, or closes it when the server stops.
func (h *handover) pass(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.stop:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.stop:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The listener ends with the server it
// belongs to.
func (h *handover) Close() error { return nil }

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return h.addr }

// handedConn reads again what was read before it was handed over.
type handedConn struct {
	net.Conn
	first []byte
	give  func() // its slot back
	once  sync.Once
}

// Read implements net.Conn.
func (c *handedConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		if c.first = c.first[n:]; len(c.first) == 0 {
			c.first = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// Close implements net.Conn.
func (c *handedConn) Close() error {
	c.once.Do(c.give)
	return c.Conn.Close()
}
