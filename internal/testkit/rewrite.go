package testkit

import (
	"strings"
	"sync"
	"testing"
)

// The kinds of command that a Refusal can answer.
const (
	OnConnect = "connect" // a client that logs in
	OnBegin   = "begin"   // a transaction that begins
	OnRead    = "read"    // SELECT and SHOW
	OnWrite   = "write"   // INSERT, UPDATE and DELETE
	OnCommit  = "commit"  // a transaction that is to be kept
	OnAny     = "any"     // all of the above but connect
)

// Refusal is an error with which a rewriting proxy answers in place of the
// database, as another proxy or a cluster between the two would.
type Refusal struct {
	Code  string // the number of MySQL, or the SQLSTATE of PostgreSQL
	State string // MySQL only: the SQLSTATE; empty is HY000
	Text  string // the message
	On    string // which commands, by the constants above
	Times int    // how many of them; 0 is each one until Clear

	// Lies makes the database do the work first: only its "done" is replaced.
	// A read is refused as without it, and so is a login.
	Lies bool

	// HangUp ends the connection behind the error.
	HangUp bool
}

// refusals are what a rewriting proxy has to say. Safe for concurrent use.
type refusals struct {
	mu    sync.Mutex
	now   Refusal
	armed bool
	left  int // answers still to give, when now.Times is not 0
	given int
}

// take hands out the refusal for a command of one kind, if there is one, and counts it.
func (r *refusals) take(kind string) (Refusal, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.armed || kind == "" || kind != r.now.On && (r.now.On != OnAny || kind == OnConnect) {
		return Refusal{}, false
	}
	r.given++
	if r.now.Times > 0 {
		r.left--
		r.armed = r.left > 0
	}
	return r.now, true
}

// NewRewritingProxy starts a proxy that understands the protocol of the
// database at upstream, "mysql" or "postgres", and answers some commands
// itself once Refuse says so. It does all that a Proxy does besides. It does
// not understand TLS: a client is told that the server has none.
func NewRewritingProxy(t testing.TB, driver, upstream string) *Proxy {
	t.Helper()
	said := &refusals{}
	filters := map[string]func() filter{
		"mysql":    func() filter { return newMySQLFilter(said) },
		"postgres": func() filter { return newPostgresFilter(said) },
	}
	if filters[driver] == nil {
		t.Fatalf("no rewriting proxy for %q: there are mysql and postgres", driver)
	}
	return newProxy(t, &Proxy{upstream: upstream, refusals: said, filter: filters[driver]})
}

// Refuse answers commands with an error from now on. It replaces the Refusal
// before it. The proxy must be a rewriting one.
func (p *Proxy) Refuse(with Refusal) {
	p.refusals.mu.Lock()
	defer p.refusals.mu.Unlock()
	p.refusals.now, p.refusals.armed, p.refusals.left = with, true, with.Times
}

// Clear lets every command pass again. A proxy that rewrites nothing has
// nothing to clear.
func (p *Proxy) Clear() {
	if p.refusals == nil {
		return
	}
	p.refusals.mu.Lock()
	defer p.refusals.mu.Unlock()
	p.refusals.armed = false
}

// Refused is how many commands have been answered with an error so far.
func (p *Proxy) Refused() int {
	p.refusals.mu.Lock()
	defer p.refusals.mu.Unlock()
	return p.refusals.given
}

// filter rewrites what passes through one connection. Its methods are called
// from two goroutines at once.
type filter interface {
	// request returns what goes to the server in place of data.
	request(data []byte) []byte

	// reply returns what goes to the client in place of data, and whether the
	// connection ends behind it.
	reply(data []byte) (out []byte, hangUp bool)
}

// kindOf is the kind of one SQL statement, empty for those that always pass.
func kindOf(statement string) string {
	statement = strings.TrimSpace(statement)
	verb := statement
	if end := strings.IndexAny(statement, " \t\r\n(;"); end >= 0 {
		verb = statement[:end]
	}
	switch strings.ToUpper(verb) {
	case "BEGIN", "START":
		return OnBegin
	case "SELECT", "SHOW", "WITH":
		return OnRead
	case "INSERT", "UPDATE", "DELETE", "REPLACE":
		return OnWrite
	case "COMMIT":
		return OnCommit
	}
	return "" // ROLLBACK among them, which never fails, and SET
}
