package queue_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// benchBox is a line on a real Redis that never fills.
func benchBox(b *testing.B) *box {
	s := queues.OpenSale()
	s.Cap, s.Total = queue.MaxCap, 1_000_000_000
	return newBox(b, testkit.Redis(b).Addr(), s)
}

// BenchmarkAdmit measures one call to Redis that admits so many requests.
func BenchmarkAdmit(b *testing.B) {
	for _, size := range []int{1, 50, 200} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			line := benchBox(b)
			requests := make([]queue.Request, size)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				for i := range requests {
					n++
					requests[i] = queues.Ask(fmt.Sprint("order-", n), fmt.Sprint("user-", n))
				}
				answers, err := line.Admit(line.Ctx, 1, queues.Rate, requests)
				require.NoError(b, err)
				require.NoError(b, answers[size-1].Err)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tickets/s")
		})
	}
}

// BenchmarkClaimSettle measures the way of a batch through a worker that does nothing.
func BenchmarkClaimSettle(b *testing.B) {
	for _, size := range []int{1, 50, 200} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			line := benchBox(b)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				line.Enqueue(size)
				b.StartTimer()
				n++
				batch := line.MustClaim(fmt.Sprint("batch-", n), size)
				line.SettleAll(batch, queue.OpConfirm)
			}
			b.ReportMetric(float64(n*size)/b.Elapsed().Seconds(), "tickets/s")
		})
	}
}
