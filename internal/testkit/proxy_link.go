package testkit

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// link is one client's connection through a proxy.
type link struct {
	proxy  *Proxy
	ctx    context.Context // ends when the link is broken
	cancel context.CancelFunc

	filter filter // of a rewriting proxy, else nil

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

// forward copies until the source ends. An orderly end is passed on and leaves
// the other direction alone; anything else breaks the link.
func (l *link) forward(to, from net.Conn, replies bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, readErr := from.Read(buffer)
		if n > 0 {
			drop, ok := l.hold(replies)
			if !ok {
				return
			}
			data, hangUp := l.rewrite(buffer[:n], replies)
			if !drop {
				if _, err := to.Write(data); err != nil {
					l.close()
					return
				}
			}
			if hangUp {
				l.close()
				return
			}
		}
		if readErr == nil {
			continue
		}
		tcp, ok := to.(*net.TCPConn)
		if readErr != io.EOF || !ok || tcp.CloseWrite() != nil {
			l.close()
		}
		return
	}
}

// rewrite is what is forwarded in place of data, and whether the link ends behind it.
func (l *link) rewrite(data []byte, reply bool) (out []byte, hangUp bool) {
	if l.filter == nil {
		return data, false
	}
	if reply {
		return l.filter.reply(data)
	}
	return l.filter.request(data), false
}

// hold waits as long as the proxy's rules keep data back. It reports whether
// to drop the data, and false when the link broke meanwhile.
func (l *link) hold(replies bool) (drop, ok bool) {
	if delay := l.proxy.current().delay; delay > 0 {
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
