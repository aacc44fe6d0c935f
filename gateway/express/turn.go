package express

import (
	"errors"
	"net/http"
	"os"
	"syscall"
	"time"
)

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
