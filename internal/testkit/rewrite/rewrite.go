// Package rewrite understands the protocols of MySQL and PostgreSQL well enough to answer some commands with an
// error. It does so in place of the database, for the proxies of testkit.
package rewrite

import (
	"fmt"
	"strings"
	"sync"
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

// Refusal is an error with which a rewriting proxy answers in place of the database. Another proxy
// or a cluster between the two would answer so.
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

// Refusals are the errors that the connections through one proxy are given. Safe for concurrent use.
type Refusals struct {
	filter func() Filter // makes that of one connection

	mu    sync.Mutex
	now   Refusal
	armed bool
	left  int // answers still to give, when now.Times is not 0
	given int
}

// New returns the refusals of a database, "mysql" or "postgres". Everything passes until Refuse.
func New(driver string) (*Refusals, error) {
	r := &Refusals{}
	switch driver {
	case "mysql":
		r.filter = func() Filter { return newMySQLFilter(r) }
	case "postgres":
		r.filter = func() Filter { return newPostgresFilter(r) }
	default:
		return nil, fmt.Errorf("no protocol of %q is known: there are mysql and postgres", driver)
	}
	return r, nil
}

// Filter makes what one connection's data pass through.
func (r *Refusals) Filter() Filter { return r.filter() }

// Refuse answers commands with an error from now on. It replaces the Refusal before it.
func (r *Refusals) Refuse(with Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now, r.armed, r.left = with, true, with.Times
}

// Clear lets every command pass again. Without Refusals there is nothing to clear.
func (r *Refusals) Clear() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.armed = false
}

// Refused counts the commands that have been answered with an error so far.
func (r *Refusals) Refused() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.given
}

// take hands out the refusal for a command of one kind, if there is one, and counts it.
func (r *Refusals) take(kind string) (Refusal, bool) {
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

// Filter rewrites what passes through one connection. Its methods are called
// from two goroutines at once.
type Filter interface {
	// Request returns what goes to the server in place of data.
	Request(data []byte) []byte

	// Reply returns what goes to the client in place of data, and whether the
	// connection ends behind it.
	Reply(data []byte) (out []byte, hangUp bool)
}

// kindOf returns the kind of one SQL statement, empty for those that always pass.
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
