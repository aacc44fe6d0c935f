package express

import (
	"net"
	"sync"
)

// handover is the listener through which net/http gets the connections that are not plain.
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

// Close implements net.Listener. The listener ends with its server.
func (h *handover) Close() error { return nil }

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return h.addr }

// handedConn is a connection that first returns the bytes that were read before it was handed over.
type handedConn struct {
	net.Conn
	first       []byte
	releaseSlot func() // returns its slot
	least       int    // bytes that must come before any is returned, as after an answer
	// posted says that the last request was a POST, so that line breaks after it are dropped.
	posted bool
	once   sync.Once
}

// Read implements net.Conn.
func (c *handedConn) Read(p []byte) (int, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	if len(c.first) > 0 {
		n := copy(p, c.first)
		if c.first = c.first[n:]; len(c.first) == 0 {
			c.first = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// begin waits for the next request of a connection with earlier answers, as conn.begin does.
func (c *handedConn) begin() error {
	for len(c.first) < c.least {
		var more [leastRequest]byte
		n, err := c.Conn.Read(more[:c.least-len(c.first)])
		if c.first = append(c.first, more[:n]...); err != nil {
			c.first, c.least = nil, 0
			return err
		}
	}
	if c.least > 0 && c.posted {
		c.first = withoutBreaks(c.first)
	}
	c.least = 0
	return nil
}

// CloseWrite lets net/http end its side first, so that the client gets the last answer.
func (c *handedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close implements net.Conn.
func (c *handedConn) Close() error {
	c.once.Do(c.releaseSlot)
	return c.Conn.Close()
}
