package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// TestStockComesBackAloud lets the last unit return by each way there is:
// every gateway must hear of it, and of nothing else.
func TestStockComesBackAloud(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		settings := queues.OpenSale()
		settings.Total = 2
		b := newBox(t, addr, settings)
		ctx, stop := context.WithCancel(b.Ctx)
		heard := make(chan string, 10)
		done := make(chan struct{})
		go func() { defer close(done); b.Lines.ListenStock(ctx, func(sale string) { heard <- sale }) }()
		t.Cleanup(func() { stop(); <-done })
		require.Eventually(t, func() bool {
			return b.Redis.PubSubNumSub(b.Ctx, "sluice:stock").Val()["sluice:stock"] == 1
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
			require.NoError(t, b.Redis.Publish(b.Ctx, "sluice:stock", "end").Err())
			require.Equal(t, "end", <-heard, way)
		}

		order := b.Enqueue(2)
		require.NoError(t, b.Cancel(b.Ctx, order[0], b.Ticket(order[0]).User))
		once("cancel")
		b.SettleAll(b.MustClaim("b1", 2), queue.OpFail) // the second unit: there was one already
		settings.Version, settings.Total = 2, 1
		require.NoError(t, b.Configure(b.Ctx, settings))
		b.Enqueue(1)
		b.SettleAll(b.MustClaim("b2", 1), queue.OpFail)
		once("settle")
		order = b.Enqueue(1)
		b.SettleAll(b.MustClaim("b3", 1), queue.OpConfirm)
		require.NoError(t, b.Release(b.Ctx, []queue.Ended{{ID: order[0], State: queue.Expired}}, 0))
		once("release")
		b.Enqueue(1)
		settings.Version, settings.Total = 3, 3
		require.NoError(t, b.Configure(b.Ctx, settings))
		once("configure")
		b.Rebuild(2, nil)
		once("reopen")
	})
}
