package express

import (
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"
)

// patience is how long a begun request may take to arrive. After that net/http waits, with its own timeouts.
const patience = time.Second

// quietAfter is how long a connection waits for a request before it counts as quiet.
const quietAfter = 500 * time.Millisecond

// The states of a connection. Closing an idle one interrupts no request.
const (
	idle int32 = iota
	busy
	closed
)

// conn is the connection of one client. Only its own goroutine uses it, except for state and tcp.
type conn struct {
	server *Server
	tcp    *net.TCPConn
	raw    syscall.RawConn
	peer   string
	state  atomic.Int32
	until  time.Time  // the present read deadline
	x      *exchange  // nil while idle
	quiet  bool       // no request for a while
	served bool       // at least one request has come
	posted bool       // the last request was a POST
	begun  bool       // enough of the next request has come to parse it
	end    readResult // why turn ended

	// Results of writeSome. It and turn are created once, because a closure for each call would be an allocation.
	err         error
	sent        int
	turns, some func(fd uintptr) bool
}

func newConn(s *Server, c net.Conn) (*conn, error) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	client := &conn{server: s, tcp: tcp, raw: raw, peer: tcp.RemoteAddr().String()}
	client.turns, client.some = client.turn, client.writeSome
	return client, nil
}

// serve answers plain requests until the client leaves or sends another kind of request.
func (c *conn) serve() {
	kept := false
	defer func() {
		if cause := recover(); cause != nil && cause != http.ErrAbortHandler { //nolint:errorlint // panics are values
			c.server.whole.ErrorLog.Printf("panic serving %s: %v\n%s", c.peer, cause, debug.Stack())
		}
		if !kept {
			c.server.forget(c)
			_ = c.tcp.Close()
			c.server.releaseSlot()
		}
	}()
	switch c.receive() {
	case strange:
		kept = true
		c.handOver()
	case resting:
		// Handlers have grown this goroutine's stack; a new one needs a quarter.
		kept = true
		c.quiet = true
		c.server.ended.Go(c.serve)
	}
}

// release returns the buffers to the pool, so that a quiet client has none.
func (c *conn) release(really bool) {
	if really && c.x != nil {
		if c.x.reset() {
			c.server.spare.Put(c.x)
		}
		c.x = nil
	}
}

// answer runs the handler and writes its answer. It returns false when the connection ends.
func (c *conn) answer() bool {
	x := c.x
	x.client, x.request.RemoteAddr = c, c.peer
	c.server.whole.Handler.ServeHTTP(x, &x.request)
	last := x.finish(c.server.date.line(), c.server.closing.Load())
	err := c.send(x.out)
	c.release(true)
	if err != nil || last {
		return false
	}
	c.state.Store(idle)
	// A stop after this line finds an idle connection; this line notices an earlier stop.
	return !c.server.closing.Load()
}

// hasLeft reports whether the client has closed its side. It may be called while a handler runs.
func (c *conn) hasLeft() (gone bool) {
	err := c.raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		gone = n == 0 && err == nil || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
	})
	return gone || err != nil
}

// send writes all of p. It sets a deadline only if the kernel does not take p at once.
func (c *conn) send(p []byte) error {
	c.err, c.sent = nil, 0
	if err := c.raw.Write(c.some); err != nil {
		return err
	}
	if c.err != nil || c.sent == len(p) {
		return c.err
	}
	if err := c.tcp.SetWriteDeadline(time.Now().Add(c.server.whole.WriteTimeout)); err != nil {
		return err
	}
	_, err := c.tcp.Write(p[c.sent:])
	return errors.Join(err, c.tcp.SetWriteDeadline(time.Time{}))
}

func (c *conn) writeSome(fd uintptr) bool {
	n, err := syscall.Write(int(fd), c.x.out)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
	case err != nil:
		c.err = err
	default:
		c.sent = n
	}
	return true
}

// waitFor sets the read deadline to about d from now. Moving it costs as much as parsing a request, so it moves only
// when it is off by a quarter.
func (c *conn) waitFor(d time.Duration) {
	if d <= 0 {
		return
	}
	now := time.Now()
	if left := c.until.Sub(now); left < d-d/4 || left > d {
		c.setUntil(now.Add(d))
	}
}

func (c *conn) setUntil(t time.Time) {
	c.until = t
	_ = c.tcp.SetReadDeadline(t) // fails only on a closed connection, as the read will
}

// handOver gives the connection to net/http, with the bytes that were read.
func (c *conn) handOver() {
	c.server.forget(c)
	handed := &handedConn{Conn: c.tcp, first: append([]byte(nil), c.x.in...), releaseSlot: c.server.releaseSlot}
	if c.served && !c.begun {
		handed.least, handed.posted = leastRequest, c.posted
	}
	c.release(true)
	c.setUntil(time.Time{})
	c.server.handed.pass(handed)
}

// endIdle closes a connection that waits for a request.
func (c *conn) endIdle() {
	if c.state.CompareAndSwap(idle, closed) {
		c.cutOff()
	}
}

// cutOff ends both directions at once. Close would wait for a running handler.
func (c *conn) cutOff() {
	_, _ = c.tcp.CloseWrite(), c.tcp.CloseRead() // errors mean that the client was quicker
}
