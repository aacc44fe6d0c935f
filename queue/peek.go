package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// ErrPrivateRedis says that Redis belongs to one process: nobody else can ask it.
var ErrPrivateRedis = errors.New("redis runs inside the process that uses it")

// Peek asks the Redis that cfg names, without the checks of OpenRedis and
// without starting one. look must not keep the client.
func Peek(ctx context.Context, cfg RedisConfig, look func(context.Context, redis.UniversalClient) error) error {
	if len(cfg.Addrs) == 0 {
		return ErrPrivateRedis
	}
	if cfg.Mode == ModeAuto {
		cfg.Mode = ModeSingle
	}
	opts, err := cfg.options()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout+cfg.Timeout)
	defer cancel()
	client := newClient(opts, cfg.Mode)
	if err := look(ctx, client); err != nil {
		return errors.Join(fmt.Errorf("redis (%s): %w", where(cfg), err), client.Close())
	}
	return client.Close()
}
