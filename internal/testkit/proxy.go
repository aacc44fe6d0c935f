package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/internal/testkit/rewrite"
	"sluice/internal/testkit/servers"
)

const (
	proxyConnections = 1024 // more are closed as soon as they are accepted
	proxyDial        = 5 * time.Second
	proxyAttempts    = 5 // to find a port
)

// Proxy forwards TCP connections to one server and breaks them on command. It puts a faulty network
// between the product and a store. All methods are safe for concurrent use.
type Proxy struct {
	*rewrite.Refusals // of a rewriting proxy, else nil: only Clear may be called then
	addr              string
	wg                sync.WaitGroup

	mu       sync.Mutex
	upstream string
	listener net.Listener // nil while cut
	links    map[*link]struct{}
	closed   bool
	rules    rules
}

// rules is what the links do with data at the moment.
type rules struct {
	delay       time.Duration
	dropReplies bool
	changed     chan struct{} // closed when the rules change
	paused      bool
}

// NewProxy starts a proxy before the server at upstream. It is closed, and all
// its goroutines have ended, when the test ends.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	return newProxy(t, &Proxy{upstream: upstream})
}

// NewRewritingProxy starts a proxy that understands the protocol of the database at upstream,
// "mysql" or "postgres". It answers some commands itself once Refuse says so. It does all that a
// Proxy does besides. It does not understand TLS: a client is told that the server has none.
func NewRewritingProxy(t testing.TB, driver, upstream string) *Proxy {
	t.Helper()
	refusals, err := rewrite.New(driver)
	if err != nil {
		t.Fatal(err)
	}
	return newProxy(t, &Proxy{upstream: upstream, Refusals: refusals})
}

// newProxy finds a port for p and starts it.
func newProxy(t testing.TB, p *Proxy) *Proxy {
	t.Helper()
	p.links, p.rules.changed = map[*link]struct{}{}, make(chan struct{})
	for attempt := 1; ; attempt++ {
		port, err := servers.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		p.addr = fmt.Sprintf("127.0.0.1:%d", port)
		err = p.Heal()
		if err == nil {
			break
		}
		if attempt == proxyAttempts { // each time somebody else was faster
			t.Fatal(err)
		}
	}
	t.Cleanup(p.Close)
	return p
}

// Addr returns where clients connect; it stays the same over Cut and Heal.
func (p *Proxy) Addr() string { return p.addr }

// Redirect sends all connections to another server from now on and breaks
// those that there are.
func (p *Proxy) Redirect(upstream string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = upstream
	for l := range p.links {
		l.close()
	}
}

// target returns the server that connections go to.
func (p *Proxy) target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.upstream
}

// Cut breaks every connection and refuses new ones until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	if p.listener != nil {
		deafen(p.listener)
		_ = p.listener.Close()
		p.listener = nil
	}
	for l := range p.links {
		l.close()
	}
}

// deafen ends the listening itself. A process that is being started beside it holds a copy of the socket until it
// runs. It would keep a merely closed one listening.
func deafen(listener net.Listener) {
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}
}

// Heal accepts connections again after Cut. Broken ones stay broken.
func (p *Proxy) Heal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return nil
	}
	if p.closed {
		return errors.New("the proxy is closed")
	}
	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		return fmt.Errorf("proxy to %s: %w", p.upstream, err)
	}
	p.listener = listener
	p.wg.Go(func() { p.accept(listener) })
	return nil
}

// Pause stops forwarding in both directions: connections stay open and new
// ones are accepted, but nothing arrives until Resume.
func (p *Proxy) Pause() { p.change(func(r *rules) { r.paused = true }) }

// Resume forwards what was held back since Pause.
func (p *Proxy) Resume() { p.change(func(r *rules) { r.paused = false }) }

// DropReplies keeps forwarding requests but swallows every reply: the
// server acts and the client never learns. Swallowed replies are gone for good.
func (p *Proxy) DropReplies(drop bool) { p.change(func(r *rules) { r.dropReplies = drop }) }

// Delay forwards what comes from now on d later. Request and reply both wait, so a round trip takes
// 2d longer, however much it carries. Zero forwards at once.
func (p *Proxy) Delay(d time.Duration) { p.change(func(r *rules) { r.delay = d }) }

// Close breaks every connection and returns when the proxy's goroutines have
// ended. Closing twice is harmless.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.cut()
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) change(edit func(*rules)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit(&p.rules)
	close(p.rules.changed)
	p.rules.changed = make(chan struct{})
}

func (p *Proxy) current() rules {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rules
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // cut or closed
		}
		l := &link{proxy: p, client: conn}
		if p.Refusals != nil {
			l.filter = p.Filter()
		}
		l.ctx, l.cancel = context.WithCancel(context.Background())
		if !p.admit(l, listener) {
			l.close()
			continue
		}
		p.wg.Go(func() {
			defer p.forget(l)
			l.run()
		})
	}
}

// admit registers a link so that Cut finds it, unless Cut has already been.
func (p *Proxy) admit(l *link, from net.Listener) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != from || len(p.links) >= proxyConnections {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.close()
	delete(p.links, l)
}
