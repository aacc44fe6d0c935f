package testkit

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Trips counts round trips, commands and keys of scripts of a client: add it to the client as a hook. Safe for
// concurrent use.
type Trips struct{ Rounds, Commands, Keys atomic.Int64 }

// DialHook implements redis.Hook.
func (c *Trips) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (c *Trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.Rounds.Add(1)
		c.Commands.Add(1)
		c.Keys.Add(keysOf(cmd))
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook: a pipeline is one round trip.
func (c *Trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.Rounds.Add(1)
		c.Commands.Add(int64(len(cmds)))
		for _, cmd := range cmds {
			c.Keys.Add(keysOf(cmd))
		}
		return next(ctx, cmds)
	}
}

// keysOf counts the keys that a command hands to a script.
func keysOf(cmd redis.Cmder) int64 {
	if cmd.Name() != "evalsha" && cmd.Name() != "eval" {
		return 0
	}
	n, _ := cmd.Args()[2].(int)
	return int64(n)
}
