package worker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
	"sluice/queue/worker"
)

// Batches of a fast database grow to the bound, those of a slow one shrink until they end within a tenth of the lease.
func TestBatchesFollowThePace(t *testing.T) {
	t.Parallel()
	const lease = 10 * time.Second
	fast := worker.NewSizer(lease)
	require.Equal(t, 500, fast.Bound(queue.MaxBatch), "a process begins small")
	for range 10 {
		n := fast.Bound(queue.MaxBatch)
		fast.Ended(n, time.Duration(n)*20*time.Microsecond, true)
	}
	require.Equal(t, queue.MaxBatch/4, fast.Bound(queue.MaxBatch))
	require.Equal(t, 7, fast.Bound(7), "queue.batch is the bound")
	fast.Ended(1, time.Millisecond, true)
	require.Equal(t, queue.MaxBatch/4, fast.Bound(queue.MaxBatch), "a small batch says nothing about large ones")
	fast.Ended(5000, 10*time.Millisecond, false)
	require.Equal(t, queue.MaxBatch/4, fast.Bound(queue.MaxBatch), "a store that is away fails quickly")

	slow := worker.NewSizer(lease)
	for range 10 {
		n := slow.Bound(queue.MaxBatch)
		took := time.Duration(n) * 20 * time.Millisecond // fifty orders a second
		slow.Ended(n, min(took, lease*3/4), took < lease*3/4)
	}
	require.Equal(t, 50, slow.Bound(queue.MaxBatch))
}
