package redisnodes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/internal/testkit/servers"
)

const (
	migrateMost    = 100  // keys of one look
	migrateTimeout = 5000 // ms
)

// MoveSlot moves a key's slot to another master, one key at a time with a pause after each. A
// resharding of a live cluster does the same. Returns the new master.
func (c *Cluster) MoveSlot(ctx context.Context, key string, pause time.Duration) (*servers.Server, error) {
	slot, err := c.Slot(ctx, key)
	if err != nil {
		return nil, err
	}
	from, _, err := c.Roles(ctx, key)
	if err != nil {
		return nil, err
	}
	source, target, err := c.endsOf(ctx, from)
	if err != nil {
		return nil, err
	}
	if err = tell(ctx, target.Server, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.ID); err == nil {
		err = tell(ctx, source.Server, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.ID)
	}
	if err == nil {
		err = migrate(ctx, source.Server, target.Server, slot, pause)
	}
	if err == nil {
		err = c.assign(ctx, slot, source, target)
	}
	if err != nil {
		return nil, fmt.Errorf("move slot %d from %s to %s: %w", slot, source.Server.Addr(), target.Server.Addr(), err)
	}
	return target.Server, nil
}

// endsOf asks a master about itself and finds another one to move to.
func (c *Cluster) endsOf(ctx context.Context, from *servers.Server) (source, target node, err error) {
	nodes, err := c.nodes(ctx)
	if err != nil {
		return source, target, err
	}
	for _, n := range nodes {
		switch {
		case n.Server == from:
			source = n
		case n.Master == "-" && target.Server == nil:
			target = n
		}
	}
	if source.Server == nil || target.Server == nil {
		return source, target, errors.New("there are no two masters")
	}
	return source, target, nil
}

// migrate moves the keys of a slot one by one until none is left.
func migrate(ctx context.Context, from, to *servers.Server, slot int, pause time.Duration) error {
	return Ask(from, func(c *redis.Client) error {
		for {
			keys, err := c.ClusterGetKeysInSlot(ctx, slot, migrateMost).Result()
			if err != nil || len(keys) == 0 {
				return err
			}
			for _, key := range keys {
				if err := c.Do(ctx, "MIGRATE", "127.0.0.1", to.Port(), key, 0, migrateTimeout).Err(); err != nil {
					return fmt.Errorf("migrate %s: %w", key, err)
				}
				timer := time.NewTimer(pause)
				select {
				case <-timer.C:
				case <-ctx.Done():
					timer.Stop()
					return ctx.Err()
				}
			}
		}
	})
}

// assign tells every master who owns a slot now. The new one comes first, so nobody is sent to a
// node that does not know.
func (c *Cluster) assign(ctx context.Context, slot int, source, target node) error {
	nodes, err := c.nodes(ctx)
	if err != nil {
		return err
	}
	told := []*servers.Server{target.Server, source.Server}
	for _, n := range nodes {
		if n.Master == "-" && n.Server != source.Server && n.Server != target.Server {
			told = append(told, n.Server)
		}
	}
	for _, s := range told {
		if err := tell(ctx, s, "CLUSTER", "SETSLOT", slot, "NODE", target.ID); err != nil {
			return fmt.Errorf("give slot %d to %s: %w", slot, target.Server.Addr(), err)
		}
	}
	return nil
}
