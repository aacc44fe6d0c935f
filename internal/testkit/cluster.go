package testkit

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

const (
	// clusterPatience is how long the nodes of a small cluster may take to know each other.
	clusterPatience = 30 * time.Second
	// clusterTimeout is so long that the cluster takes no hung node for dead while a test runs.
	clusterTimeout = "120000"
)

// SmallCluster is two masters, each with half of the slots, and a replica of the first. It serves the slots that are
// left when one of them is gone.
type SmallCluster struct {
	t       testing.TB
	Nodes   []*RedisServer // master, master, replica of the first
	Clients []*redis.Client
}

// NewSmallCluster starts one that ends with the test.
func NewSmallCluster(t testing.TB) *SmallCluster {
	t.Helper()
	c := &SmallCluster{t: t}
	for range 3 {
		node := Redis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", clusterTimeout,
			"--cluster-require-full-coverage", "no")
		c.Nodes, c.Clients = append(c.Nodes, node), append(c.Clients, node.Client())
	}
	ctx := t.Context()
	c.must(c.Clients[0].ClusterAddSlotsRange(ctx, 0, 8191).Err())
	c.must(c.Clients[1].ClusterAddSlotsRange(ctx, 8192, 16383).Err())
	for _, other := range c.Nodes[1:] {
		host, port, err := net.SplitHostPort(other.Addr())
		c.must(err)
		c.must(c.Clients[0].ClusterMeet(ctx, host, port).Err())
	}
	c.each("cluster_known_nodes:3")
	first := c.Clients[0].ClusterMyID(ctx).Val()
	c.await("the replica", func() bool { return c.Clients[2].ClusterReplicate(ctx, first).Err() == nil })
	c.each("cluster_state:ok")
	c.await("all to know the replica", func() bool {
		return strings.Contains(c.Clients[2].Info(ctx, "replication").Val(), "master_link_status:up") &&
			strings.Count(fmt.Sprint(c.Clients[1].ClusterNodes(ctx).Val()), "slave") == 1
	})
	return c
}

func (c *SmallCluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("small cluster: %v", err)
	}
}

// await polls until done.
func (c *SmallCluster) await(what string, done func() bool) {
	c.t.Helper()
	require.Eventually(c.t, done, clusterPatience, 20*time.Millisecond, "small cluster: waited in vain for %s", what)
}

// each waits until every node says this of the cluster.
func (c *SmallCluster) each(line string) {
	c.t.Helper()
	c.await(line, func() bool {
		for _, client := range c.Clients {
			if !strings.Contains(client.ClusterInfo(c.t.Context()).Val(), line) {
				return false
			}
		}
		return true
	})
}

// Hang stops a node without a word: connections to it stand open.
func (c *SmallCluster) Hang(node int) {
	c.t.Helper()
	pid := c.Nodes[node].PID()
	c.must(syscall.Kill(pid, syscall.SIGSTOP))
	c.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

// On returns the first of the names begin-0, begin-1, … whose key is on a master.
func (c *SmallCluster) On(master int, begin string, key func(name string) string) string {
	c.t.Helper()
	for i := range 1000 {
		name := fmt.Sprint(begin, "-", i)
		slot, err := c.Clients[0].ClusterKeySlot(c.t.Context(), key(name)).Result()
		c.must(err)
		if (slot < 8192) == (master == 0) {
			return name
		}
	}
	c.t.Fatalf("small cluster: no name on master %d", master)
	return ""
}

// Client returns a client of the whole, closed when the test ends. It waits long for an answer. Whoever waits for a
// hung node does not come back before the test is over.
func (c *SmallCluster) Client(timeout time.Duration) *redis.ClusterClient {
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{c.Nodes[0].Addr(),
			c.Nodes[1].Addr()}, MaxRedirects: 3, DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout,
		PoolTimeout: timeout, ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1,
	})
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}
