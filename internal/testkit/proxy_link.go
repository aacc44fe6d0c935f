package testkit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"sluice/internal/testkit/rewrite"
)

// link is one client's connection through a proxy.
type link struct {
	proxy  *Proxy
	ctx    context.Context // ends when the link is broken
	cancel context.CancelFunc

	filter rewrite.Filter // of a rewriting proxy, else nil

	client net.Conn
	mu     sync.Mutex
	server net.Conn // nil until dialled
}

// run forwards both directions until both have ended or the link is broken.
func (l *link) run() {
	dialer := net.Dialer{Timeout: proxyDial}
	server, err := dialer.DialContext(l.ctx, "tcp", l.proxy.target())
	if err != nil {
		return // the client sees a broken connection, as with the real server down
	}
	if !l.join(server) {
		return
	}
	var requests sync.WaitGroup
	requests.Go(func() { l.forward(server, l.client, false) })
	l.forward(l.client, server, true)
	requests.Wait()
}

// join adds the server's side, unless the link was broken while dialling.
func (l *link) join(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		_ = server.Close()
		return false
	}
	l.server = server
	return true
}

// close breaks the link. It may be called often and from any goroutine.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel()
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
}

// linkPieces bounds what is on its way in one direction of a link.
const linkPieces = 64

// piece is data on its way, when it arrives, and how reading ended.
type piece struct {
	data []byte
	due  time.Time
	err  error
}

// forward copies until the source ends. An orderly end is passed on and leaves
// the other direction alone; anything else breaks the link.
func (l *link) forward(to, from net.Conn, replies bool) {
	pieces := make(chan piece, linkPieces)
	var reader sync.WaitGroup
	reader.Go(func() { l.read(from, pieces) })
	defer reader.Wait()
	for p := range pieces {
		if len(p.data) > 0 && !l.pass(to, p, replies) {
			return
		}
		if p.err == nil {
			continue
		}
		tcp, ok := to.(*net.TCPConn)
		if !errors.Is(p.err, io.EOF) || !ok || tcp.CloseWrite() != nil {
			l.close()
		}
		return
	}
}

// read takes data from the source as it comes: a delay makes it late, not slow.
func (l *link) read(from net.Conn, pieces chan<- piece) {
	defer close(pieces)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		due := time.Now().Add(l.proxy.current().delay)
		select {
		case pieces <- piece{bytes.Clone(buffer[:n]), due, err}:
		case <-l.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// pass forwards one piece when it is due; false when the link is broken.
func (l *link) pass(to net.Conn, p piece, replies bool) bool {
	drop, ok := l.hold(p.due, replies)
	if !ok {
		return false
	}
	data, hangUp := l.rewrite(p.data, replies)
	if !drop {
		if _, err := to.Write(data); err != nil {
			hangUp = true
		}
	}
	if hangUp {
		l.close()
	}
	return !hangUp
}

// rewrite returns what is forwarded in place of data, and whether the link ends behind it.
func (l *link) rewrite(data []byte, reply bool) (out []byte, hangUp bool) {
	if l.filter == nil {
		return data, false
	}
	if reply {
		return l.filter.Reply(data)
	}
	return l.filter.Request(data), false
}

// hold waits until data is due, and as long as the proxy's rules keep it back. It reports whether
// to drop the data, and false when the link broke meanwhile.
func (l *link) hold(due time.Time, replies bool) (drop, ok bool) {
	if delay := time.Until(due); delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			return false, false
		}
	}
	for {
		rules := l.proxy.current()
		if !rules.paused {
			return replies && rules.dropReplies, l.ctx.Err() == nil
		}
		select {
		case <-rules.changed:
		case <-l.ctx.Done():
			return false, false
		}
	}
}
