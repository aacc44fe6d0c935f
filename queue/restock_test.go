package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

// TestStockComesBackAloud lets the last unit return by each way there is:
// every gateway must hear of it, and of nothing else.
func TestStockComesBackAloud(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		settings := openSale()
		settings.Total = 2
		b := newBox(t, addr, settings)
		ctx, stop := context.WithCancel(b.ctx)
		heard := make(chan string, 10)
		done := make(chan struct{})
		go func() { defer close(done); b.lines.ListenStock(ctx, func(sale string) { heard <- sale }) }()
		t.Cleanup(func() { stop(); <-done })
		require.Eventually(t, func() bool {
			return b.rdb.PubSubNumSub(b.ctx, "sluice:stock").Val()["sluice:stock"] == 1
		}, 5*time.Second, time.Millisecond)
		// once hears one message, and then no other.
		once := func(way string) {
			t.Helper()
			select {
			case sale := <-heard:
				require.Equal(t, "sale", sale, way)
			case <-time.After(5 * time.Second):
				require.Fail(t, "nobody was told", way)
			}
			require.NoError(t, b.rdb.Publish(b.ctx, "sluice:stock", "end").Err())
			require.Equal(t, "end", <-heard, way)
		}

		order := b.enqueue(2)
		require.NoError(t, b.Cancel(b.ctx, order[0], b.ticket(order[0]).User))
		once("cancel")
		b.settle(b.claim("b1", 2), queue.OpFail) // the second unit: there was one already
		settings.Version, settings.Total = 2, 1
		require.NoError(t, b.Configure(b.ctx, settings))
		b.enqueue(1)
		b.settle(b.claim("b2", 1), queue.OpFail)
		once("settle")
		order = b.enqueue(1)
		b.settle(b.claim("b3", 1), queue.OpConfirm)
		require.NoError(t, b.Release(b.ctx, []queue.Ended{{ID: order[0], State: queue.Expired}}, 0))
		once("release")
		b.enqueue(1)
		settings.Version, settings.Total = 3, 3
		require.NoError(t, b.Configure(b.ctx, settings))
		once("configure")
		b.rebuild(2, nil)
		once("reopen")
	})
}
