package express

import (
	"errors"
	"net/http"
	"os"
	"syscall"
	"time"
)

// readResult classifies the bytes read so far.
type readResult int

const (
	partial readResult = iota // an incomplete request
	whole                     // a plain request
	strange                   // for net/http
	resting                   // nothing for a while
	gone                      // the client left, or the server stops
)

// receive serves requests until the connection ends, rests or goes to net/http.
func (c *conn) receive() readResult {
	rest := c.server.whole.IdleTimeout
	if !c.served { // a client without a request yet gets net/http's timeout
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

// turn reads the available bytes and answers requests in them. It returns false to be called again when more has come,
// or true, with end set, after the last.
//
// All turns of a connection are one call of the runtime's poller, which remembers arrivals since the last read. A read
// that does not fill its buffer has emptied the socket (epoll(7)), so no further read is needed.
//
// This misses the end of the client's side if it came with the bytes: it causes no second wake-up. After a first
// request and after part of a request, turn checks for it. Elsewhere it is found when the connection is quiet.
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
			c.end = strange // the client has ended its side: what it left is for net/http to judge
			return true
		case err != nil || n == 0, c.state.Load() != busy && !c.state.CompareAndSwap(idle, busy):
			c.release(true)
			return true
		}
		c.x.in = c.x.in[:len(c.x.in)+n]
		first := !c.served
		if !c.process() {
			return true
		}
		if n < len(room) && c.x == nil && !first {
			return false
		}
	}
}

// process handles the bytes read so far. It returns false when the connection is done here.
func (c *conn) process() bool {
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
		c.x.late = true // the deadline counts from the first piece
		c.setUntil(time.Now().Add(min(patience, c.server.whole.ReadHeaderTimeout)))
	}
	return true
}

// leastRequest is how many bytes net/http waits for before it parses a further request.
const leastRequest = 4

// begin reports whether there are enough bytes to parse a request. Like net/http, it drops line breaks after a POST,
// which old clients send, among the first four bytes.
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
		c.state.Store(idle) // nothing of at least one request has come
		return false
	}
	return true
}

// withoutBreaks returns p without leading line breaks among its first four bytes.
func withoutBreaks(p []byte) []byte {
	for n := 0; n < leastRequest && len(p) > 0 && (p[0] == '\r' || p[0] == '\n'); n++ {
		p = p[1:]
	}
	return p
}
