package express

import (
	"errors"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"
)

// patience is how long a request may take to arrive whole, once it has begun;
// beyond it, net/http waits with its own timeouts.
const patience = time.Second

// quietAfter is how long a connection waits before it counts as quiet.
const quietAfter = 500 * time.Millisecond

// The states of a connection. Only an idle one may be closed from outside
// without cutting off a request.
const (
	idle int32 = iota
	busy
	closed
)

// conn is one client. It belongs to its goroutine, but for state and tcp.
type conn struct {
	server *Server
	tcp    *net.TCPConn
	raw    syscall.RawConn
	peer   string
	state  atomic.Int32
	until  time.Time // when reading ends, as the kernel was last told
	x      *exchange // nil while idle
	quiet  bool      // no request has come for a while
	served bool      // a request has come
	posted bool      // the last request was a POST
	begun  bool      // enough of the next request has come to begin reading it
	end    verdict   // why turn does not wait for more

	// What writeSome leaves behind; it and turn are made once, because a closure
	// for each call would be an allocation for each call.
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

// serve answers plain requests until the client leaves or sends another kind.
func (c *conn) serve() {
	kept := false
	defer func() {
		if cause := recover(); cause != nil && cause != http.ErrAbortHandler { //nolint:errorlint // panics are values
			c.server.whole.ErrorLog.Printf("panic serving %s: %v\n%s", c.peer, cause, debug.Stack())
		}
		if !kept {
			c.server.forget(c)
			_ = c.tcp.Close()
			c.server.give()
		}
	}()
	switch c.receive() {
	case strange:
		kept = true
		c.handOver()
	case resting:
		// This stack has grown by running handlers; one that begins anew is a quarter of it.
		kept = true
		c.quiet = true
		c.server.ended.Go(c.serve)
	}
}

// verdict is what became of what was read.
type verdict int

const (
	partial verdict = iota // more must come
	whole                  // a plain request
	strange                // net/http's
	resting                // nothing has come for a while
	gone                   // the client left, or the server stops
)

// receive takes turns until the connection is no longer this goroutine's.
func (c *conn) receive() verdict {
	rest := c.server.whole.IdleTimeout
	if !c.served { // whoever has not asked for anything yet has as long as net/http gives
		rest = min(rest, c.server.whole.ReadHeaderTimeout)
	}
	if c.quiet {
		c.waitFor(rest - quietAfter)
	} else {
		c.waitFor(min(rest, quietAfter))
	}
	c.end = gone
	err := c.raw.Read(c.turns)
	switch late := errors.Is(err, os.ErrDeadlineExceeded); {
	case late && c.x != nil:
		return strange
	case late && !c.quiet && rest > quietAfter:
		return resting
	case err != nil:
		return gone
	}
	return c.end
}

// turn reads what is there and answers it. It returns false to be called again
// when more has come, and true, with end set, when it is the last.
//
// All turns of a connection are one call to the runtime's poller: it keeps
// what has arrived since the last read, so nothing need be read in vain to find that there is
// nothing (epoll(7): a read that was not filled has emptied the socket).
//
// Only the end of the client's side is missed so, if it came along with the bytes: it wakes nobody again.
// Behind a first request and a part of one, where it is likely or wants an answer, it is looked for;
// elsewhere it is found once the connection is quiet.
func (c *conn) turn(fd uintptr) bool {
	for {
		if c.x == nil {
			c.x = c.server.spare.Get().(*exchange)
		}
		room := c.x.room()
		n, err := syscall.Read(int(fd), room)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			c.release(len(c.x.in) == 0)
			return false
		case err == nil && n == 0 && len(c.x.in) > 0 && (c.begun || !c.served):
			c.end = strange // the client has ended its side: what it left is net/http's to judge
			return true
		case err != nil || n == 0, c.state.Load() != busy && !c.state.CompareAndSwap(idle, busy):
			c.release(true)
			return true
		}
		c.x.in = c.x.in[:len(c.x.in)+n]
		first := !c.served
		if !c.judge() {
			return true
		}
		if n < len(room) && c.x == nil && !first {
			return false
		}
	}
}

// judge deals with what has come so far; false when the connection is done here.
func (c *conn) judge() bool {
	if !c.begin() {
		return !c.server.closing.Load()
	}
	switch v := c.x.parse(c.server); {
	case v == whole:
		c.quiet, c.served, c.begun = false, true, false
		c.posted = c.x.request.Method == http.MethodPost
		if !c.answer() {
			return false
		}
		c.waitFor(min(c.server.whole.IdleTimeout, quietAfter))
		return true
	case v == strange || c.x.full():
		c.end = strange
		return false
	}
	if !c.x.late {
		c.x.late = true // the first piece sets the time for all
		c.setUntil(time.Now().Add(min(patience, c.server.whole.ReadHeaderTimeout)))
	}
	return true
}

// leastRequest is how many bytes net/http waits for before it reads another request of a connection.
const leastRequest = 4

// begin reports whether what has come can be read as a request. As net/http does, it drops line breaks behind a POST
// if they are among the first four bytes: clients of old sent them.
func (c *conn) begin() bool {
	if c.begun || !c.served {
		return true
	}
	if len(c.x.in) < leastRequest {
		return false
	}
	c.begun = true
	if c.posted {
		c.x.in = c.x.in[:copy(c.x.in, withoutBreaks(c.x.in))]
	}
	if len(c.x.in) == 0 {
		c.state.Store(idle) // nothing of a request has come
		return false
	}
	return true
}

// withoutBreaks drops the line breaks that p begins with, if they are among the first four bytes.
func withoutBreaks(p []byte) []byte {
	for n := 0; n < leastRequest && len(p) > 0 && (p[0] == '\r' || p[0] == '\n'); n++ {
		p = p[1:]
	}
	return p
}

// release gives the buffers back, so that a quiet client holds none.
func (c *conn) release(really bool) {
	if really && c.x != nil {
		if c.x.reset() {
			c.server.spare.Put(c.x)
		}
		c.x = nil
	}
}

// answer runs the handler and writes its answer; false when the connection ends.
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
	// Whoever stops the server after this line sees an idle connection; before it, this does.
	return !c.server.closing.Load()
}

// left reports whether the client has closed its side. Another goroutine may ask
// while a handler runs.
func (c *conn) left() (gone bool) {
	err := c.raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		gone = n == 0 && err == nil || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
	})
	return gone || err != nil
}

// send writes all of p. The kernel nearly always takes it at once, and then no
// deadline is set.
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

// waitFor lets reading end about d from now: moving a deadline costs as much as
// parsing a request, so it is moved only when it is off by a quarter.
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
	_ = c.tcp.SetReadDeadline(t) // fails on a closed connection only, and then so does the read
}

// handOver gives the connection to net/http, with what was read.
func (c *conn) handOver() {
	c.server.forget(c)
	handed := &handedConn{Conn: c.tcp, first: append([]byte(nil), c.x.in...), give: c.server.give}
	if c.served && !c.begun {
		handed.least, handed.posted = leastRequest, c.posted
	}
	c.release(true)
	c.setUntil(time.Time{})
	c.server.handed.pass(handed)
}

// endIdle ends a connection that waits for a request.
func (c *conn) endIdle() {
	if c.state.CompareAndSwap(idle, closed) {
		c.cutOff()
	}
}

// cutOff ends the conversation at once. Closing would wait for a turn that runs a handler.
func (c *conn) cutOff() {
	_, _ = c.tcp.CloseWrite(), c.tcp.CloseRead() // fail where the client was quicker
}
