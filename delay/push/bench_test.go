package push_test

// The benchmarks run Redis (appendfsync always), the dispatcher and the receiver on the same machine.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay/message"
	"sluice/internal/testkit/topics"
)

// counter is a receiver that records how late each call came.
type counter struct {
	*httptest.Server
	n    atomic.Int64
	mu   sync.Mutex
	late []time.Duration
	due  func(id string) time.Time
}

func newCounter(b *testing.B, due func(id string) time.Time) *counter {
	c := &counter{due: due}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		_, id, _ := strings.Cut(r.Header.Get("webhook-id"), ":")
		late := at.Sub(c.due(id))
		c.mu.Lock()
		c.late = append(c.late, late)
		c.mu.Unlock()
		c.n.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	b.Cleanup(c.Close)
	return c
}

func (c *counter) wait(b *testing.B, n int64) {
	b.Helper()
	require.Eventually(b, func() bool { return c.n.Load() >= n }, 2*time.Minute, time.Millisecond,
		"not all of %d messages came", n)
}

func (c *counter) report(b *testing.B) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.late)
	at := func(p float64) float64 { return float64(c.late[int(p*float64(len(c.late)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "late-p50-ms")
	b.ReportMetric(at(0.99), "late-p99-ms")
	b.ReportMetric(at(1), "late-max-ms")
}

// BenchmarkFire delivers a backlog that is due all at once: the highest rate.
func BenchmarkFire(b *testing.B) {
	w := topics.Bench(b)
	c := newCounter(b, func(string) time.Time { return time.Now() })
	w.Topic("bench", c.URL)
	past := time.Now().Add(-time.Second)
	w.Fill("bench", "m", b.N, func(int) time.Time { return past })
	b.ResetTimer()
	stop := w.Dispatch()
	c.wait(b, int64(b.N))
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	stop()
}

// BenchmarkOnTime measures how late messages of a steady stream arrive at the receiver. Meanwhile 1,000,000 messages
// wait for later. One operation is one message.
func BenchmarkOnTime(b *testing.B) {
	for _, rate := range []int{2_000, 5_000, 10_000, 12_000} {
		b.Run(fmt.Sprintf("%d-per-second", rate), func(b *testing.B) {
			const pending, seconds = 1_000_000, 8
			w := topics.Bench(b)
			n := rate * seconds
			var start time.Time
			at := func(i int) time.Time { return start.Add(time.Duration(i) * time.Second / time.Duration(rate)) }
			c := newCounter(b, func(id string) time.Time {
				var i int
				_, _ = fmt.Sscanf(id, "m-%d", &i)
				return at(i).Truncate(time.Millisecond)
			})
			w.Topic("bench", c.URL)
			later := time.Now().Add(time.Hour)
			w.Fill("bench", "later", pending, func(int) time.Time { return later })
			start = time.Now().Add(10 * time.Second)
			w.Fill("bench", "m", n, at)
			require.True(b, time.Now().Before(start), "the stream was not added in time")
			b.ResetTimer()
			stop := w.Dispatch()
			c.wait(b, int64(n))
			b.StopTimer()
			took := time.Since(start)
			stop()
			counts, failed := w.Messages.Count(context.Background(), w.Topics.Subscriptions())
			require.NoError(b, errors.Join(failed...))
			require.Equal(b, message.Counts{Pending: pending}, counts[0])
			b.ReportMetric(float64(n)/took.Seconds(), "messages/s")
			c.report(b)
		})
	}
}
