package queue

import (
	"context"
	"fmt"

	"sluice/internal/luascript"

	goredis "github.com/redis/go-redis/v9"

	"sluice/store/redis"
)

// WithDurability returns the same lines, admitting only while d finds Redis
// durable enough.
func (ls *Lines) WithDurability(d *redis.Durability) *Lines {
	durable := *ls
	durable.durability = d
	return &durable
}

// checkDurability returns ErrNotReady while Redis keeps less than is asked for.
func (ls *Lines) checkDurability() error {
	if ls.durability == nil {
		return nil
	}
	if err := ls.durability.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

// acks returns how many replicas must have a write before it is answered.
func (ls *Lines) acks() int {
	n, _ := ls.durability.Acks()
	return n
}

// durably calls a script and returns when its effect is as durable as asked
// for. It writes a counter even when the script wrote nothing: WAIT speaks of
// this connection's last write only, and an answer may repeat what another
// connection wrote.
func (l *Line) durably(ctx context.Context, s luascript.Script, keys []string, args ...any) (any, error) {
	if err := l.checkDurability(); err != nil {
		return nil, err
	}
	n, limit := l.durability.Acks()
	if n == 0 {
		return s.Run(ctx, l.rdb, keys, args...)
	}
	node, err := l.node(ctx)
	if err != nil {
		return nil, err
	}
	reply, acknowledged := l.acknowledge(ctx, node, s, keys, args)
	if goredis.HasErrorPrefix(reply.Err(), "NOSCRIPT") {
		if err := s.Install(ctx, node); err != nil {
			return nil, s.Failed(err, keys)
		}
		reply, acknowledged = l.acknowledge(ctx, node, s, keys, args)
	}
	answer, err := reply.Result()
	if err != nil {
		return nil, s.Failed(err, keys)
	}
	got, err := acknowledged.Int64()
	if err != nil {
		return nil, fmt.Errorf("wait for the replicas of %s: %w", keys[0], err)
	}
	if got < int64(n) {
		return nil, fmt.Errorf("%w: %d of %d replicas acknowledged within %s", ErrNotReady, got, n, limit)
	}
	return answer, nil
}

// acknowledge calls a script and waits for its replicas, in one round trip.
func (l *Line) acknowledge(
	ctx context.Context, node goredis.UniversalClient, s luascript.Script, keys []string, args []any,
) (reply, acknowledged *goredis.Cmd) {
	n, limit := l.durability.Acks()
	pipe := node.Pipeline()
	reply = s.Queue(ctx, pipe, keys, args...)
	pipe.HIncrBy(ctx, l.keys.meta, metaWaited, 1)
	acknowledged = pipe.Do(ctx, "WAIT", n, limit.Milliseconds())
	_, _ = pipe.Exec(ctx) // each command has its own error
	return reply, acknowledged
}

// node returns the one server that holds this line: WAIT names no key, so a
// cluster client would send it anywhere.
func (l *Line) node(ctx context.Context) (goredis.UniversalClient, error) {
	cluster, ok := l.rdb.(*goredis.ClusterClient)
	if !ok {
		return l.rdb, nil
	}
	master, err := cluster.MasterForKey(ctx, l.keys.meta)
	if err != nil {
		return nil, fmt.Errorf("find the master of %s: %w", l.keys.meta, err)
	}
	return master, nil
}
