package delay

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkAddToTen adds messages in calls of 1,000 to a topic with ten subscriptions. One operation is one message, of
// which each subscription gets a copy.
func BenchmarkAddToTen(b *testing.B) {
	w := benchWorld(b)
	w.topic("bench", "http://127.0.0.1:1/")
	for i := range 9 {
		w.subscribe("bench", fmt.Sprint("s", i))
	}
	later := time.Now().Add(time.Hour)
	b.ResetTimer()
	w.fill("bench", "m", b.N, func(int) time.Time { return later })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkPull lets ten readers receive and acknowledge a backlog, 100 messages a call.
func BenchmarkPull(b *testing.B) {
	w := benchWorld(b)
	w.topic("bench", "")
	w.subscribe("bench", "s")
	past := time.Now().Add(-time.Second)
	w.fill("bench", "m", b.N, func(int) time.Time { return past })
	readers := w.readers()
	var done atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range 10 {
		all.Go(func() {
			for done.Load() < int64(b.N) {
				got, err := readers.Receive(b.Context(), "s", 100, 0)
				if err != nil {
					b.Error(err)
					return
				}
				if len(got) == 0 {
					continue // others hold the rest
				}
				leases := make([]string, len(got))
				for i, l := range got {
					leases[i] = l.Lease
				}
				if _, err := readers.Ack(b.Context(), "s", leases); err != nil {
					b.Error(err)
					return
				}
				done.Add(int64(len(got)))
			}
		})
	}
	all.Wait()
	b.StopTimer()
	require.EqualValues(b, b.N, done.Load())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
