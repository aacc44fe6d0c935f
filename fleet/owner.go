package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Owner notes which installation the keys behind a prefix belong to: whose database tells what they mean.
// Safe for concurrent use.
type Owner struct {
	prefix, key string
	rdb         redis.UniversalClient
}

// NewOwner returns the owner of a prefix, redis.prefix, of rdb.
func NewOwner(rdb redis.UniversalClient, prefix string) *Owner {
	return &Owner{prefix: prefix, key: prefix + ":installation", rdb: rdb}
}

// Prefix returns the prefix that is owned.
func (o *Owner) Prefix() string { return o.prefix }

// ID returns the id of the installation that owns the keys. It is empty when none does: Redis is
// new, was emptied, or is from before owners were noted.
func (o *Owner) ID(ctx context.Context) (string, error) {
	id, err := o.rdb.Get(ctx, o.key).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read which installation owns %s: %w", o.key, err)
	}
	return id, nil
}

// Claim makes an installation the owner unless there is one, and returns the
// owner's id.
func (o *Owner) Claim(ctx context.Context, id string) (string, error) {
	owner, err := o.ID(ctx)
	if err != nil || owner != "" {
		return owner, err
	}
	err = o.rdb.SetArgs(ctx, o.key, id, redis.SetArgs{Mode: "NX"}).Err()
	if err != nil && !errors.Is(err, redis.Nil) { // nil: another was first
		return "", fmt.Errorf("note that this installation owns %s: %w", o.key, err)
	}
	return o.ID(ctx)
}

// Take makes an installation the owner, whoever was it before.
func (o *Owner) Take(ctx context.Context, id string) error {
	if err := o.rdb.Set(ctx, o.key, id, 0).Err(); err != nil {
		return fmt.Errorf("note that this installation owns %s: %w", o.key, err)
	}
	return nil
}
