package fleet

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Claim makes this installation the owner of a prefix of another Redis than the main one, or returns an error that says
// whose it is. Call it after Enter.
func (g *Guard) Claim(ctx context.Context, rdb redis.UniversalClient, prefix string) error {
	owner := NewOwner(rdb, prefix)
	id, err := owner.Claim(ctx, g.id)
	if err != nil || id == g.id {
		return err
	}
	if g.Adopt {
		return owner.Take(ctx, g.id)
	}
	return fmt.Errorf("its keys that begin with %s belong to installation %s, and the database to %s: give it another "+
		"redis.prefix, or start one process with --adopt-redis to take over what waits there", prefix, id, g.id)
}
