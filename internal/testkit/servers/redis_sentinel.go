package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
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

// RedisSentinel is a master with two replicas and the three sentinels that
// watch them. Its methods may be called from any goroutine.
type RedisSentinel struct {
	Nodes     []*Server // those with the data
	Sentinels []*Server
}

// StartRedisSentinel starts all six and returns when every sentinel knows the
// others and both replicas follow the master.
func StartRedisSentinel(ctx context.Context) (*RedisSentinel, error) {
	c := &RedisSentinel{}
	err := c.form(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a Redis with sentinels: %w", err), c.Close())
	}
	return c, nil
}

func (c *RedisSentinel) form(ctx context.Context) (err error) {
	c.Nodes, err = together(sentinelNodes, func(int) (*Server, error) {
		return Host{}.launchRedis(ctx, "redis-replicated", func(*Server) []string {
			return []string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}
		})
	})
	if err != nil {
		return err
	}
	master := c.Nodes[0]
	for _, s := range c.Nodes[1:] {
		if err := tellRedis(ctx, s, "REPLICAOF", "127.0.0.1", master.port); err != nil {
			return err
		}
	}
	for _, s := range c.Nodes[1:] { // or the sentinels would learn of them late
		if err := poll(ctx, func() error { return follows(ctx, s, master.port) }); err != nil {
			return err
		}
	}
	c.Sentinels, err = together(sentinelNodes, func(int) (*Server, error) { return launchSentinel(ctx, master) })
	if err != nil {
		return err
	}
	for _, s := range c.Sentinels { // they look every 10 s and tell each other every 2 s, which is long for a test
		err := tellRedis(ctx, s, "SENTINEL", "DEBUG", "INFO-PERIOD", 300, "PUBLISH-PERIOD", 300,
			"ASK-PERIOD", 300, "PING-PERIOD", 200)
		if err != nil {
			return err
		}
	}
	return c.AwaitWhole(ctx)
}

// launchSentinel starts a sentinel; it writes what it learns into its file.
func launchSentinel(ctx context.Context, master *Server) (*Server, error) {
	program, err := FindRedis()
	if err != nil {
		return nil, err
	}
	file := func(s *Server) string { return filepath.Join(s.dir, "sentinel.conf") }
	return launch(ctx, recipe{
		kind: "redis-sentinel",
		prepare: func(_ context.Context, s *Server) error {
			text := fmt.Sprintf(
				"sentinel monitor %[1]s 127.0.0.1 %[2]d %[3]d\nsentinel down-after-milliseconds %[1]s 1000\n"+
					"sentinel failover-timeout %[1]s 3000\nsentinel parallel-syncs %[1]s 2\n", MasterName, master.port,
				sentinelQuorum)
			return os.WriteFile(file(s), []byte(text), 0o600)
		},
		command: func(s *Server) (string, []string) {
			return program, []string{
				file(s), "--sentinel", "--bind", "127.0.0.1", "--port", fmt.Sprint(
					s.port), "--dir", s.dir, "--daemonize", "no",
			}
		},
		ready:    redisReady,
		quit:     syscall.SIGTERM,
		orphaned: syscall.SIGKILL,
	})
}

// Close kills all and removes their folders.
func (c *RedisSentinel) Close() error { return errors.Join(closeAll(c.Sentinels), closeAll(c.Nodes)) }

// Addrs are the addresses of the sentinels.
func (c *RedisSentinel) Addrs() []string {
	var addrs []string
	for _, s := range c.Sentinels {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// Roles returns the master that a majority of the sentinels names, and its
// replicas. The key is ignored: one master has them all.
func (c *RedisSentinel) Roles(ctx context.Context, _ string) (master *Server, replicas []*Server, err error) {
	votes := map[string]int{}
	for _, s := range c.Sentinels {
		addr, err := c.names(ctx, s)
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
		if s != master && s.PID() != 0 && follows(ctx, s, master.port) == nil {
			replicas = append(replicas, s)
		}
	}
	return master, replicas, nil
}

// names is the master that one sentinel names.
func (c *RedisSentinel) names(ctx context.Context, s *Server) (addr string, err error) {
	err = AskRedis(s, func(r *redis.Client) error {
		pair, err := r.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName).StringSlice()
		addr = strings.Join(pair, ":")
		return err
	})
	return addr, err
}

// AwaitWhole returns when all sentinels name the same master, which is one, and
// see its two replicas in step with it.
func (c *RedisSentinel) AwaitWhole(ctx context.Context) error {
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

// sees returns nil when a sentinel names the master, holds nobody for down, knows the other
// sentinels, and knows of choice, if there is one, that it comes first.
func (c *RedisSentinel) sees(ctx context.Context, s, master, choice *Server) error {
	return AskRedis(s, func(r *redis.Client) error {
		state, err := r.Do(ctx, "SENTINEL", "MASTER", MasterName).Result()
		if err != nil {
			return err
		}
		fields := stringMap(state)
		others := fields["num-other-sentinels"]
		if fields["port"] != fmt.Sprint(master.port) || fields["flags"] != "master" ||
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
			if choice != nil && replica["port"] == fmt.Sprint(choice.port) {
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
func (c *RedisSentinel) Prefer(ctx context.Context, choice *Server) error {
	for _, s := range c.Nodes {
		priority := lastChoice
		if s == choice {
			priority = firstChoice
		}
		if err := tellRedis(ctx, s, "CONFIG", "SET", "replica-priority", priority); err != nil {
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
func (c *RedisSentinel) Failover(ctx context.Context, to *Server, _ bool) error {
	if err := c.Prefer(ctx, to); err != nil {
		return err
	}
	return poll(ctx, func() error { // a failover that was begun by itself is in its way for a moment
		return tellRedis(ctx, c.Sentinels[0], "SENTINEL", "FAILOVER", MasterName)
	})
}
