package pull_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/testkit/topics"

	"github.com/stretchr/testify/require"
)

// BenchmarkPull lets ten readers receive and acknowledge a backlog, 100 messages a call.
func BenchmarkPull(b *testing.B) {
	w := topics.Bench(b)
	w.Topic("bench", "")
	w.Subscribe("bench", "s")
	past := time.Now().Add(-time.Second)
	w.Fill("bench", "m", b.N, func(int) time.Time { return past })
	readers := w.Readers()
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
