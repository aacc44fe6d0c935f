package gateway_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway/ratelimit"
	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
	"sluice/inventory"
)

// sink is an answer that nobody reads.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }

// post makes requests of distinct users; tokens are signed before the clock runs.
func (s *world) post(n int) []*http.Request {
	requests := make([]*http.Request, n)
	for i := range requests {
		r, err := http.NewRequestWithContext(s.T.Context(), http.MethodPost, "/v1/sales/phone/orders", nil)
		require.NoError(s.T, err)
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("Authorization", "Bearer "+s.Token("user-"+strconv.Itoa(i), false))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(api.IdempotencyHeader, "key-"+strconv.Itoa(i))
		requests[i] = r
	}
	return requests
}

func (s *world) serveOne(w *sink, r *http.Request) {
	w.header = make(http.Header, 8)
	r.Body = http.NoBody
	s.Gateway.Handler().ServeHTTP(w, r)
}

func generous(c *stack.Setup) {
	c.Limits = ratelimit.Config{GlobalRPS: 1e7, PerUserRPS: 1000, PerIPRPS: 1000}
}

// BenchmarkRefuseLocally is the whole way of an order that a sold-out sale refuses, without the network.
func BenchmarkRefuseLocally(b *testing.B) {
	s := newWorld(b, stack.Quiet, generous)
	s.Sell("phone", 1)
	s.Place("ann", "phone")
	s.local(api.CodeSoldOut, "phone")
	requests, w := s.post(10_000), &sink{}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		s.serveOne(w, requests[n%len(requests)])
		n++
	}
	require.Equal(b, http.StatusConflict, w.status)
}

// BenchmarkAdmit is the whole way of an order into the line of a real Redis, many at a time, without the network.
func BenchmarkAdmit(b *testing.B) {
	addr := testkit.Redis(b).Addr()
	s := newWorld(b, generous, func(c *stack.Setup) { c.Redis = addr })
	s.Sell("phone", 1_000_000_000, func(n *inventory.NewSale) { n.Cap, n.PerUserLimit = 1_000_000, 1000 })
	requests := s.post(10_000)
	for _, r := range requests {
		r.Header.Del(api.IdempotencyHeader) // each is an order of its own
	}
	b.ReportAllocs()
	b.SetParallelism(128)
	b.RunParallel(func(pb *testing.PB) {
		w := &sink{}
		for n := int(time.Now().UnixNano() % 10_000); pb.Next(); n++ {
			s.serveOne(w, requests[n%len(requests)].Clone(b.Context()))
		}
	})
}

// BenchmarkPoll is the whole way of a status poll of an order that waits in a real Redis, many at a
// time, without the network.
func BenchmarkPoll(b *testing.B) {
	addr := testkit.Redis(b).Addr()
	s := newWorld(b, generous, func(c *stack.Setup) { c.Redis = addr })
	s.Sell("phone", 1)
	poll, err := http.NewRequestWithContext(b.Context(), http.MethodGet, s.Place("ann", "phone"), nil)
	require.NoError(b, err)
	poll.RemoteAddr = "127.0.0.1:1"
	poll.Header.Set("Authorization", "Bearer "+s.Token("ann", false))
	b.ReportAllocs()
	b.SetParallelism(128)
	b.RunParallel(func(pb *testing.PB) {
		w := &sink{}
		for pb.Next() {
			s.serveOne(w, poll.Clone(b.Context()))
		}
		if w.status != 0 && w.status != http.StatusOK { // 0: nobody said otherwise
			b.Error(w.status)
		}
	})
}
