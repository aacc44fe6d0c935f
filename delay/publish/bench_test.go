package publish_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"sluice/internal/testkit/topics"

	"github.com/stretchr/testify/require"
)

// BenchmarkAdd adds messages in calls of 1,000 through the Go API.
func BenchmarkAdd(b *testing.B) {
	w := topics.Bench(b)
	w.Topic("bench", "http://127.0.0.1:1/")
	later := time.Now().Add(time.Hour)
	b.ResetTimer()
	w.Fill("bench", "m", b.N, func(int) time.Time { return later })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	info, err := w.Redis.InfoMap(b.Context(), "memory").Result()
	require.NoError(b, err)
	used, err := strconv.ParseFloat(info["Memory"]["used_memory"], 64)
	require.NoError(b, err)
	b.ReportMetric(used/float64(b.N), "redis-B/message")
}

// BenchmarkAddToTen adds messages in calls of 1,000 to a topic with ten subscriptions. One operation is one message, of
// which each subscription gets a copy.
func BenchmarkAddToTen(b *testing.B) {
	w := topics.Bench(b)
	w.Topic("bench", "http://127.0.0.1:1/")
	for i := range 9 {
		w.Subscribe("bench", fmt.Sprint("s", i))
	}
	later := time.Now().Add(time.Hour)
	b.ResetTimer()
	w.Fill("bench", "m", b.N, func(int) time.Time { return later })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
