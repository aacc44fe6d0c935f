package delay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
)

// The benchmarks run Redis (appendfsync always), the dispatcher and the receiver on the same machine.

func benchWorld(b *testing.B) *world {
	b.Helper()
	cfg := DefaultConfig()
	cfg.AllowPrivate = true
	return newWorld(b, testkit.Redis(b).Addr(), tables.New(b, "sqlite"), cfg)
}

const benchBody = `{"type":"coupon.expired","data":{"user":"u-123456","coupon":"c-987654321","cents":500,` +
	`"note":"thirty days are over"}}`

func bulk(prefix string, from, n int, at func(i int) time.Time) []New {
	list := make([]New, n)
	for i := range list {
		list[i] = New{ID: fmt.Sprintf("%s-%d", prefix, from+i), At: at(from + i), Body: []byte(benchBody)}
	}
	return list
}

// fill adds n messages in calls of 1,000 from four goroutines.
func (w *world) fill(topic, prefix string, n int, at func(i int) time.Time) {
	w.t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				from := int(next.Add(1000)) - 1000
				if from >= n {
					return
				}
				if _, err := w.adder(topic)(w.t.Context(), topic,
					bulk(prefix, from, min(1000, n-from), at)); err != nil {
					w.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkAdd adds messages in calls of 1,000 through the Go API.
func BenchmarkAdd(b *testing.B) {
	w := benchWorld(b)
	w.topic("bench", "http://127.0.0.1:1/")
	later := time.Now().Add(time.Hour)
	b.ResetTimer()
	w.fill("bench", "m", b.N, func(int) time.Time { return later })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	info, err := w.rdb.InfoMap(b.Context(), "memory").Result()
	require.NoError(b, err)
	used, err := strconv.ParseFloat(info["Memory"]["used_memory"], 64)
	require.NoError(b, err)
	b.ReportMetric(used/float64(b.N), "redis-B/message")
}

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
	w := benchWorld(b)
	c := newCounter(b, func(string) time.Time { return time.Now() })
	w.topic("bench", c.URL)
	past := time.Now().Add(-time.Second)
	w.fill("bench", "m", b.N, func(int) time.Time { return past })
	b.ResetTimer()
	_, stop := w.startDispatcher()
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
			w := benchWorld(b)
			n := rate * seconds
			var start time.Time
			at := func(i int) time.Time { return start.Add(time.Duration(i) * time.Second / time.Duration(rate)) }
			c := newCounter(b, func(id string) time.Time {
				var i int
				_, _ = fmt.Sscanf(id, "m-%d", &i)
				return at(i).Truncate(time.Millisecond)
			})
			w.topic("bench", c.URL)
			later := time.Now().Add(time.Hour)
			w.fill("bench", "later", pending, func(int) time.Time { return later })
			start = time.Now().Add(10 * time.Second)
			w.fill("bench", "m", n, at)
			require.True(b, time.Now().Before(start), "the stream was not added in time")
			b.ResetTimer()
			_, stop := w.startDispatcher()
			c.wait(b, int64(n))
			b.StopTimer()
			took := time.Since(start)
			stop()
			counts, failed := w.messages.Count(context.Background(), w.topics.Subscriptions())
			require.NoError(b, errors.Join(failed...))
			require.Equal(b, Counts{Pending: pending}, counts[0])
			b.ReportMetric(float64(n)/took.Seconds(), "messages/s")
			c.report(b)
		})
	}
}
