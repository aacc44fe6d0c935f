package topics

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Call is one call that a receiver got.
type Call struct {
	Method string
	Header http.Header
	Body   string
	At     time.Time
}

// Receiver is an HTTP server that remembers every call.
type Receiver struct {
	*httptest.Server
	mu    sync.Mutex
	calls []Call
}

// NewReceiver returns a receiver that answers so. It ends with the test.
func NewReceiver(t testing.TB, answer http.HandlerFunc) *Receiver {
	t.Helper()
	r := &Receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.calls = append(r.calls, Call{req.Method, req.Header.Clone(), string(body), time.Now()})
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

// Calls returns all calls.
func (r *Receiver) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Call(nil), r.calls...)
}

// CallsWith returns the calls with one message.
func (r *Receiver) CallsWith(id string) []Call {
	var found []Call
	for _, c := range r.Calls() {
		if c.Header.Get("webhook-id") == id {
			found = append(found, c)
		}
	}
	return found
}

// AcceptAll answers 204.
func AcceptAll(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// AnswerWith answers with a status.
func AnswerWith(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}
