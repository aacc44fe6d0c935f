package providers

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// Receiver is an endpoint of a shop that remembers its calls. It gives one answer a call, and repeats the last.
type Receiver struct {
	*httptest.Server
	mu      sync.Mutex
	answers []http.HandlerFunc
	got     []Call
}

// Call is one call that a receiver got.
type Call struct {
	Method, Path, Body string
	Header             http.Header
	At                 time.Time
}

// NewReceiver returns a receiver that answers so. It ends with the test.
func NewReceiver(t testing.TB, answers ...http.HandlerFunc) *Receiver {
	t.Helper()
	r := &Receiver{answers: answers}
	r.Server = httptest.NewServer(http.HandlerFunc(r.handle))
	t.Cleanup(func() {
		r.CloseClientConnections() // an answer that never comes ends with its request
		r.Close()
	})
	return r
}

func (r *Receiver) handle(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	r.got = append(r.got, Call{Method: req.Method, Path: req.URL.RequestURI(), Body: string(body),
		Header: req.Header.Clone(), At: time.Now()})
	answer := r.answers[0]
	if len(r.answers) > 1 {
		r.answers = r.answers[1:]
	}
	r.mu.Unlock()
	answer(w, req)
}

// Calls returns all calls, in their order.
func (r *Receiver) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// CallsWith returns the calls with one webhook-id.
func (r *Receiver) CallsWith(id string) []Call {
	return slices.DeleteFunc(r.Calls(), func(c Call) bool { return c.Header.Get("webhook-id") != id })
}

// Status answers with a status and headers, each a name and a value.
func Status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

// AcceptAll answers 204.
func AcceptAll(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
