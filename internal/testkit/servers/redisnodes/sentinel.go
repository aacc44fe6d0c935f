package redisnodes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/internal/testkit/servers"
)

const (
	sentinelNodes  = 3
	sentinelQuorum = 2
	// firstChoice and lastChoice are replica priorities: sentinels promote the lowest.
	firstChoice = 1
	lastChoice  = 100
)

// MasterName is what the sentinels call their master.
const MasterName = "sluice"

// Sentinel is a master with two replicas and the three sentinels that
// watch them. Its methods may be called from any goroutine.
type Sentinel struct {
	Nodes     []*servers.Server // those with the data
	Sentinels []*servers.Server
}

// StartSentinel starts all six and returns when every sentinel knows the
// others and both replicas follow the master.
func StartSentinel(ctx context.Context) (*Sentinel, error) {
	c := &Sentinel{}
	err := c.form(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a Redis with sentinels: %w", err), c.Close())
	}
	return c, nil
}

func (c *Sentinel) form(ctx context.Context) (err error) {
	c.Nodes, err = together(sentinelNodes, func(int) (*servers.Server, error) {
		return servers.RedisWith(ctx, "redis-replicated", func(int) []string {
			return []string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}
		})
	})
	if err != nil {
		return err
	}
	master := c.Nodes[0]
	for _, s := range c.Nodes[1:] {
		if err := tell(ctx, s, "REPLICAOF", "127.0.0.1", master.Port()); err != nil {
			return err
		}
	}
	for _, s := range c.Nodes[1:] { // or the sentinels would learn of them late
		if err := poll(ctx, func() error { return follows(ctx, s, master.Port()) }); err != nil {
			return err
		}
	}
	watched := servers.Watched{Name: MasterName, Master: master.Addr(), Quorum: sentinelQuorum,
		Failover: 3 * time.Second}
	c.Sentinels, err = together(sentinelNodes, func(int) (*servers.Server, error) {
		return servers.Host{}.Sentinel(ctx, watched)
	})
	if err != nil {
		return err
	}
	for _, s := range c.Sentinels { // they look every 10 s and tell each other every 2 s, which is long for a test
		err := tell(ctx, s, "SENTINEL", "DEBUG", "INFO-PERIOD", 300, "PUBLISH-PERIOD", 300,
			"ASK-PERIOD", 300, "PING-PERIOD", 200)
		if err != nil {
			return err
		}
	}
	return c.AwaitWhole(ctx)
}

// Close kills all and removes their folders.
func (c *Sentinel) Close() error { return errors.Join(closeAll(c.Sentinels), closeAll(c.Nodes)) }

// Addrs returns the addresses of the sentinels.
func (c *Sentinel) Addrs() []string {
	var addrs []string
	for _, s := range c.Sentinels {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// Roles returns the master that a majority of the sentinels names, and its
// replicas. The key is ignored: one master has them all.
func (c *Sentinel) Roles(ctx context.Context, _ string) (master *servers.Server,
	replicas []*servers.Server, err error) {
	votes := map[string]int{}
	for _, s := range c.Sentinels {
		addr, err := c.masterOf(ctx, s)
		if err == nil {
			votes[addr]++
		}
	}
	for _, s := range c.Nodes {
		if votes[s.Addr()] >= sentinelQuorum {
			master = s
		}
	}
	if master == nil {
		return nil, nil, fmt.Errorf("the sentinels do not agree on a master: %v", votes)
	}
	for _, s := range c.Nodes {
		if s != master && s.PID() != 0 && follows(ctx, s, master.Port()) == nil {
			replicas = append(replicas, s)
		}
	}
	return master, replicas, nil
}

// masterOf asks one sentinel for the address of the master.
func (c *Sentinel) masterOf(ctx context.Context, s *servers.Server) (addr string, err error) {
	err = Ask(s, func(r *redis.Client) error {
		pair, err := r.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName).StringSlice()
		addr = strings.Join(pair, ":")
		return err
	})
	return addr, err
}

// AwaitWhole returns when all sentinels name the same master. It must be one, and they must see its
// two replicas in step with it.
func (c *Sentinel) AwaitWhole(ctx context.Context) error {
	return poll(ctx, func() error {
		master, replicas, err := c.Roles(ctx, "")
		if err != nil {
			return err
		}
		if len(replicas) != sentinelNodes-1 {
			return fmt.Errorf("%d replicas follow the master", len(replicas))
		}
		info, err := infoOf(ctx, master, "replication")
		if err != nil || info["role"] != "master" {
			return fmt.Errorf("the sentinels name %s, a %q: %w", master.Addr(), info["role"], err)
		}
		for _, s := range c.Sentinels {
			if err := c.sees(ctx, s, master, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// sees returns nil when a sentinel names the master, holds nobody for down and knows the other
// sentinels. Of choice, if there is one, it must know that it comes first.
func (c *Sentinel) sees(ctx context.Context, s, master, choice *servers.Server) error {
	return Ask(s, func(r *redis.Client) error {
		state, err := r.Do(ctx, "SENTINEL", "MASTER", MasterName).Result()
		if err != nil {
			return err
		}
		fields := stringMap(state)
		others := fields["num-other-sentinels"]
		if fields["port"] != fmt.Sprint(master.Port()) || fields["flags"] != "master" ||
			others != fmt.Sprint(sentinelNodes-1) {
			return fmt.Errorf("sentinel %s sees %v", s.Addr(), fields)
		}
		list, err := r.Do(ctx, "SENTINEL", "REPLICAS", MasterName).Slice()
		if err != nil {
			return err
		}
		sound, first := 0, choice == nil
		for _, one := range list {
			replica := stringMap(one)
			if replica["flags"] == "slave" && replica["master-link-status"] == "ok" {
				sound++
			}
			if choice != nil && replica["port"] == fmt.Sprint(choice.Port()) {
				first = replica["slave-priority"] == fmt.Sprint(firstChoice)
			}
		}
		if choice == nil && sound != sentinelNodes-1 || !first {
			return fmt.Errorf("sentinel %s sees replicas %v", s.Addr(), list)
		}
		return nil
	})
}

// stringMap reads an answer of names and values, in the form of either protocol.
func stringMap(answer any) map[string]string {
	found := map[string]string{}
	switch list := answer.(type) {
	case map[any]any:
		for name, value := range list {
			found[fmt.Sprint(name)] = fmt.Sprint(value)
		}
	case []any:
		for i := 0; i+1 < len(list); i += 2 {
			found[fmt.Sprint(list[i])] = fmt.Sprint(list[i+1])
		}
	}
	return found
}

// Prefer makes the sentinels promote a replica before the others, and returns
// when all of them know it.
func (c *Sentinel) Prefer(ctx context.Context, choice *servers.Server) error {
	for _, s := range c.Nodes {
		priority := lastChoice
		if s == choice {
			priority = firstChoice
		}
		if err := tell(ctx, s, "CONFIG", "SET", "replica-priority", priority); err != nil {
			return err
		}
	}
	return poll(ctx, func() error {
		master, _, err := c.Roles(ctx, "")
		if err != nil {
			return err
		}
		for _, s := range c.Sentinels {
			if err := c.sees(ctx, s, master, choice); err != nil {
				return err
			}
		}
		return nil
	})
}

// Failover makes the preferred replica the master while the old one lives. What
// the old one takes until it is told is lost; takeover changes nothing.
func (c *Sentinel) Failover(ctx context.Context, to *servers.Server, _ bool) error {
	if err := c.Prefer(ctx, to); err != nil {
		return err
	}
	return poll(ctx, func() error { // a failover that was begun by itself is in its way for a moment
		return tell(ctx, c.Sentinels[0], "SENTINEL", "FAILOVER", MasterName)
	})
}
