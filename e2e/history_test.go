package e2e

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// answer is one exchange of a shopper; without an answer err says why.
type answer struct {
	method string
	sent   time.Time
	got    time.Time // when the answer was there
	reply  reply
	err    error
}

// request is one order that a shopper wants, under one Idempotency-Key. Its
// id travels as the e-mail address, so that a row can be traced to it.
type request struct {
	id, user, key string
	units         int
	cancels       bool

	mu      sync.Mutex
	answers []answer
}

func (r *request) email() string { return r.id + "@e2e.test" }

func (r *request) idempotency() map[string]string { return map[string]string{"Idempotency-Key": r.key} }

// receipt returns the header that proves the newest 202.
func (r *request) receipt() map[string]string {
	text := ""
	for _, a := range r.placed() {
		if a.err == nil && a.reply.Status == http.StatusAccepted {
			text = a.reply.Receipt
		}
	}
	return map[string]string{"Sluice-Receipt": text}
}

// placed returns the answers to attempts to place the order.
func (r *request) placed() []answer { return r.by(http.MethodPost) }

func (r *request) by(method string) []answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []answer
	for _, a := range r.answers {
		if a.method == method {
			found = append(found, a)
		}
	}
	return found
}

// orderID returns the order of the first 202, empty without one.
func (r *request) orderID() string {
	for _, a := range r.placed() {
		if a.err == nil && a.reply.Status == http.StatusAccepted {
			return a.reply.OrderID
		}
	}
	return ""
}

// refused returns the answer that ended the request, if it was a refusal.
func (r *request) refused() (answer, bool) {
	placed := r.placed()
	if len(placed) == 0 || r.orderID() != "" {
		return answer{}, false
	}
	last := placed[len(placed)-1]
	return last, last.err == nil && last.reply.Status == http.StatusConflict
}

// history is every answer that any shopper ever got.
type history struct {
	answered atomic.Int64 // answers of any kind
	mu       sync.Mutex
	requests []*request
}

func (h *history) add(r *request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, r)
}

func (h *history) all() []*request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

func (h *history) note(r *request, a answer) {
	r.mu.Lock()
	r.answers = append(r.answers, a)
	r.mu.Unlock()
	if a.err == nil {
		h.answered.Add(1)
	}
}

// accepted returns the requests that were answered 202, by order.
func (h *history) accepted() map[string]*request {
	found := map[string]*request{}
	for _, r := range h.all() {
		if id := r.orderID(); id != "" {
			found[id] = r
		}
	}
	return found
}
