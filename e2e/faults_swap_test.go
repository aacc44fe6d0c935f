package e2e

import (
	"context"
	"time"

	"sluice/internal/testkit/servers/redisnodes"
)

// restartHot kills the master of the line and starts it again before anybody can take over.
func (b *breaker) restartHot(ctx context.Context) error {
	s := b.cluster.stores
	if s.group == nil {
		s.redis.Kill()
		return s.redis.Start(ctx)
	}
	master, _, err := s.group.Roles(ctx, b.hot())
	if err != nil {
		return err
	}
	defer b.splits(time.Now().Add(-slack))() // on a busy machine somebody may
	master.Kill()
	if err := master.Start(ctx); err != nil {
		return err
	}
	return s.group.AwaitWhole(ctx)
}

// swapData gives the running single server an older copy of its data: it
// becomes the replica of the copy and then a master again.
func (b *breaker) swapData(ctx context.Context, f fault) error {
	s := b.cluster.stores
	from := time.Now().Add(-slack)
	older, err := redisnodes.Copy(ctx, s.redis)
	if err != nil {
		return err
	}
	defer func() { _ = older.Close() }() // a child of ours in any case
	b.awaitOrders(ctx, f.lag)
	defer b.loses(from)()
	return redisnodes.TakeData(ctx, s.redis, older)
}
