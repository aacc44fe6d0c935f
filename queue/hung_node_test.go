package queue_test

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
)

// smallCluster is two masters, each with half of the slots, and a replica of the first.
type smallCluster struct {
	t       *testing.T
	nodes   []*testkit.RedisServer // master, master, replica of the first
	clients []*redis.Client
}

// nodeTimeout is so long that the cluster takes no hung node for dead while a test runs.
const nodeTimeout = "120000"

func newSmallCluster(t *testing.T) *smallCluster {
	t.Helper()
	c := &smallCluster{t: t}
	for range 3 {
		node := testkit.Redis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", nodeTimeout, "--cluster-require-full-coverage", "no")
		c.nodes, c.clients = append(c.nodes, node), append(c.clients, node.Client())
	}
	ctx := t.Context()
	require.NoError(t, c.clients[0].ClusterAddSlotsRange(ctx, 0, 8191).Err())
	require.NoError(t, c.clients[1].ClusterAddSlotsRange(ctx, 8192, 16383).Err())
	for _, other := range c.nodes[1:] {
		host, port, err := net.SplitHostPort(other.Addr())
		require.NoError(t, err)
		require.NoError(t, c.clients[0].ClusterMeet(ctx, host, port).Err())
	}
	c.await("cluster_known_nodes:3")
	first := c.clients[0].ClusterMyID(ctx).Val()
	require.Eventually(t, func() bool { return c.clients[2].ClusterReplicate(ctx, first).Err() == nil }, 30*time.Second, 50*time.Millisecond)
	c.await("cluster_state:ok")
	require.Eventually(t, func() bool {
		return strings.Contains(c.clients[2].Info(ctx, "replication").Val(), "master_link_status:up") &&
			c.clients[1].ClusterShards(ctx).Val() != nil &&
			strings.Count(fmt.Sprint(c.clients[1].ClusterNodes(ctx).Val()), "slave") == 1
	}, 30*time.Second, 50*time.Millisecond)
	return c
}

func (c *smallCluster) await(line string) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		for _, client := range c.clients {
			if !strings.Contains(client.ClusterInfo(c.t.Context()).Val(), line) {
				return false
			}
		}
		return true
	}, 30*time.Second, 50*time.Millisecond, line)
}

// hang stops a node without a word: connections to it stand open.
func (c *smallCluster) hang(node int) {
	c.t.Helper()
	pid := c.nodes[node].PID()
	require.NoError(c.t, syscall.Kill(pid, syscall.SIGSTOP))
	c.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

// sale returns the id of a sale whose line is on that master.
func (c *smallCluster) sale(master int) string {
	c.t.Helper()
	for i := range 100 {
		id := fmt.Sprint("sale-", i)
		slot, err := c.clients[0].ClusterKeySlot(c.t.Context(), "{"+id+"/0}").Result()
		require.NoError(c.t, err)
		if (slot < 8192) == (master == 0) {
			return id
		}
	}
	require.Fail(c.t, "no sale on the master")
	return ""
}

func TestANodeThatHangsStopsNothingElse(t *testing.T) {
	t.Parallel()
	c := newSmallCluster(t)
	cfg := queue.DefaultRedisConfig()
	cfg.Mode, cfg.Addrs, cfg.Durability = queue.ModeCluster, []string{c.nodes[1].Addr(), c.nodes[2].Addr()}, queue.DurabilityAlways
	cfg.Timeout = 500 * time.Millisecond
	r, err := queue.OpenRedis(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	promise := queue.NewPromise(r, cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	startWatch(t, promise)
	boxes := []*box{clusterBox(t, r, c.sale(0)), clusterBox(t, r, c.sale(1))}
	served := func(boxes ...*box) {
		t.Helper()
		var asked time.Duration
		defer func() { require.Less(t, asked, 5*time.Second, "readiness waits for a node that hangs") }()
		for range 40 {
			began := time.Now()
			require.NoError(t, r.Ping(t.Context()))
			asked += time.Since(began)
			require.NoError(t, promise.Kept())
			for _, b := range boxes {
				b.enqueue(1)
			}
		}
	}
	served(boxes...)
	c.hang(2)
	served(boxes...)
	c.hang(1)
	served(boxes[0])
	_, err = boxes[1].View(t.Context())
	require.True(t, queue.Unavailable(err), "%v", err)

	// Those that answer are still looked at.
	require.NoError(t, c.clients[0].ConfigSet(t.Context(), "appendfsync", "no").Err())
	require.Eventually(t, func() bool { return promise.Kept() != nil }, 30*time.Second, 20*time.Millisecond)
	c.nodes[0].Kill()
	require.Error(t, r.Ping(t.Context()), "nobody answers")
}

// clusterBox opens a line that admits.
func clusterBox(t *testing.T, r *queue.Redis, sale string) *box {
	t.Helper()
	lines := queue.NewLines(r.Client, queue.DefaultPrefix)
	b := &box{Line: lines.Of(sale), t: t, ctx: t.Context(), lines: lines, epoch: 1}
	began, err := b.Begin(b.ctx, 1)
	require.NoError(t, err)
	require.True(t, began)
	s := openSale()
	require.NoError(t, b.Reopen(b.ctx, s, queue.Reopened{Stock: s.Total}))
	return b
}
