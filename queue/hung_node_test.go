package queue_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/store/redis"
)

func TestANodeThatHangsStopsNothingElse(t *testing.T) {
	t.Parallel()
	c := testkit.NewSmallCluster(t)
	cfg := redis.DefaultConfig()
	cfg.Mode, cfg.Addrs, cfg.Durability = redis.ModeCluster, []string{c.Nodes[1].Addr(),
		c.Nodes[2].Addr()}, redis.DurabilityAlways
	cfg.Timeout = 500 * time.Millisecond
	r, err := redis.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	durability := redis.NewDurability(r, cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	startWatch(t, durability)
	boxes := []*box{clusterBox(t, r, queues.SaleOn(c, 0)), clusterBox(t, r, queues.SaleOn(c, 1))}
	served := func(boxes ...*box) {
		t.Helper()
		var asked time.Duration
		defer func() { require.Less(t, asked, 5*time.Second, "readiness waits for a node that hangs") }()
		for range 40 {
			began := time.Now()
			require.NoError(t, r.Ping(t.Context()))
			asked += time.Since(began)
			require.NoError(t, durability.Check())
			for _, b := range boxes {
				b.Enqueue(1)
			}
		}
	}
	served(boxes...)
	c.Hang(2)
	served(boxes...)
	c.Hang(1)
	served(boxes[0])
	_, err = boxes[1].View(t.Context())
	require.True(t, redis.Unavailable(err), "%v", err)

	// Those that answer are still looked at.
	require.NoError(t, c.Clients[0].ConfigSet(t.Context(), "appendfsync", "no").Err())
	require.Eventually(t, func() bool { return durability.Check() != nil }, 30*time.Second, 20*time.Millisecond)
	c.Nodes[0].Kill()
	require.Error(t, r.Ping(t.Context()), "nobody answers")
}

// clusterBox opens a line that admits.
func clusterBox(t *testing.T, r *redis.Store, sale string) *box {
	t.Helper()
	b := &box{Bench: queues.On(t, r.Client, sale)}
	b.Load(queues.OpenSale())
	return b
}
