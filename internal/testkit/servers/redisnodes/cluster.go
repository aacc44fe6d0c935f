package redisnodes

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"sluice/internal/testkit/servers"
)

const (
	clusterMasters = 3
	clusterSlots   = 16384
	// clusterTimeout is the cluster-node-timeout in ms: a dead master is replaced a second or two later.
	clusterTimeout = "2000"
)

// Cluster is a Redis Cluster of three masters with a replica each. A replica may take over however old its data are.
// Its methods may be called from any goroutine.
type Cluster struct {
	Nodes []*servers.Server
	buses [2 * clusterMasters]bus
}

// bus is the port at which a node talks to the others. The usual one, 10,000 above its own, may be some client's.
type bus struct {
	of   int // the node's own port
	port int // 0 stands for the usual one
}

// StartCluster starts the nodes and makes a cluster of them. It returns when every node says that it is whole and
// every replica follows its master.
func StartCluster(ctx context.Context) (*Cluster, error) {
	c := &Cluster{}
	nodes, err := together(len(c.buses), func(i int) (*servers.Server, error) {
		return servers.RedisWith(ctx, "redis-cluster", c.buses[i].args)
	})
	c.Nodes = nodes
	if err == nil {
		err = c.form(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a Redis Cluster: %w", err), c.Close())
	}
	return c, nil
}

// args makes the arguments of the node at a port.
func (b *bus) args(port int) []string {
	if b.of != port {
		b.of = port
		b.port, _ = servers.FreePort()
	}
	return []string{
		"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", strconv.Itoa(b.port),
		"--cluster-node-timeout", clusterTimeout, "--cluster-replica-validity-factor", "0",
		"--cluster-allow-replica-migration", "no", // or a replica moves to where the test does not look for it
		"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
	}
}

// Close kills every node and removes its folder.
func (c *Cluster) Close() error { return closeAll(c.Nodes) }

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, s := range c.Nodes {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// form joins the fresh nodes: the first half masters, the others their replicas.
func (c *Cluster) form(ctx context.Context) error {
	each := (clusterSlots + clusterMasters - 1) / clusterMasters
	for i, s := range c.Nodes {
		if err := tell(ctx, s, "CLUSTER", "SET-CONFIG-EPOCH", i+1); err != nil {
			return err
		}
		if i < clusterMasters {
			if err := tell(ctx, s, "CLUSTER", "ADDSLOTSRANGE", i*each,
				min((i+1)*each, clusterSlots)-1); err != nil {
				return err
			}
		}
	}
	for i, s := range c.Nodes {
		for j, other := range c.Nodes[:i] {
			args := []any{"CLUSTER", "MEET", "127.0.0.1", other.Port()}
			if c.buses[j].port != 0 {
				args = append(args, c.buses[j].port)
			}
			if err := tell(ctx, s, args...); err != nil {
				return err
			}
		}
	}
	if err := poll(ctx, func() error { return c.acquainted(ctx) }); err != nil {
		return err
	}
	for i, s := range c.Nodes[clusterMasters:] {
		master, err := c.self(ctx, c.Nodes[i])
		if err != nil {
			return err
		}
		if err := tell(ctx, s, "CLUSTER", "REPLICATE", master.ID); err != nil {
			return err
		}
	}
	return c.AwaitWhole(ctx)
}

// acquainted returns nil when every node knows all others.
func (c *Cluster) acquainted(ctx context.Context) error {
	for _, s := range c.Nodes {
		text, err := clusterNodes(ctx, s)
		if err != nil {
			return err
		}
		if strings.Contains(text, "handshake") || strings.Count(text, " connected") != len(c.Nodes) {
			return fmt.Errorf("%s does not know all others:\n%s", s.Addr(), text)
		}
	}
	return nil
}

// AwaitWhole returns when every node runs and says that the cluster is whole. Each must be a master
// with slots, or a replica in step with one.
func (c *Cluster) AwaitWhole(ctx context.Context) error {
	return poll(ctx, func() error {
		nodes, err := c.nodes(ctx)
		if err != nil {
			return err
		}
		ports := map[string]int{}
		for _, n := range nodes {
			if n.Master == "-" && len(n.Slots) > 0 {
				ports[n.ID] = n.Server.Port()
			}
		}
		for _, n := range nodes {
			if err := n.whole(ctx, ports); err != nil {
				return err
			}
		}
		if len(ports) != clusterMasters || len(nodes) != len(c.Nodes) {
			return fmt.Errorf("%d nodes of %d answer, %d masters have slots", len(nodes), len(c.Nodes), len(ports))
		}
		return nil
	})
}

// Slot returns the hash slot of a key.
func (c *Cluster) Slot(ctx context.Context, key string) (slot int, err error) {
	for _, s := range c.Nodes {
		err = Ask(s, func(r *redis.Client) error {
			n, err := r.ClusterKeySlot(ctx, key).Result()
			slot = int(n)
			return err
		})
		if err == nil {
			return slot, nil
		}
	}
	return 0, err
}

// Roles returns the master that owns a key's slot, and its replicas. Of several
// that claim it the one with the highest epoch counts.
func (c *Cluster) Roles(ctx context.Context, key string) (master *servers.Server,
	replicas []*servers.Server, err error) {
	slot, err := c.Slot(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	nodes, err := c.nodes(ctx)
	if err != nil {
		return nil, nil, err
	}
	var owner node
	for _, n := range nodes {
		if n.Master == "-" && n.has(slot) && (owner.Server == nil || n.Epoch > owner.Epoch) {
			owner = n
		}
	}
	if owner.Server == nil {
		return nil, nil, fmt.Errorf("no node that answers owns slot %d", slot)
	}
	for _, n := range nodes {
		if n.Master == owner.ID {
			replicas = append(replicas, n.Server)
		}
	}
	return owner.Server, replicas, nil
}

// Failover makes a replica the master, in step with the old one; with takeover
// at once, whatever it lacks.
func (c *Cluster) Failover(ctx context.Context, to *servers.Server, takeover bool) error {
	args := []any{"CLUSTER", "FAILOVER"}
	if takeover {
		args = append(args, "TAKEOVER")
	}
	return tell(ctx, to, args...)
}
