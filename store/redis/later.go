package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// laterLimit bounds the first look at a Redis that others can do without.
const laterLimit = 5 * time.Second

// OpenLater is Open for a Redis that a process can do without for a while. One that does not answer now is returned all
// the same, with the reason in away: it must not be used before Durability.Recheck has returned nil. Any other fault is
// an error, as in Open.
func OpenLater(ctx context.Context, cfg Config, log *slog.Logger) (r *Store, away, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	if cfg, err = resolveMode(ctx, cfg, log); err != nil {
		return nil, nil, err
	}
	if r, err = connect(ctx, cfg, log); err != nil {
		return nil, nil, err
	}
	look, cancel := context.WithTimeout(ctx, laterLimit)
	defer cancel()
	err = r.examine(look, cfg)
	if err == nil {
		err = cfg.suffices(r.Durability)
	}
	if err == nil {
		r.announce(ctx, cfg, log)
		return r, nil, nil
	}
	err = fmt.Errorf("redis (%s): %w", where(cfg), err)
	if !Unavailable(err) || refusesRights(err) {
		return nil, nil, errors.Join(err, r.Close())
	}
	r.Durability = DurabilityUnknown
	return r, err, nil
}

// Recheck checks a Redis in use as Open does, and takes over what it finds. It returns why Redis must not be used.
func (d *Durability) Recheck(ctx context.Context) error {
	cfg := d.cfg
	cfg.Mode = d.redis.Mode
	if cfg.Mode == ModeEmbedded {
		return d.redis.Client.Ping(ctx).Err()
	}
	now := Store{Client: d.redis.Client, Mode: d.redis.Mode}
	found, err := now.checkEach(ctx, cfg)
	if err != nil {
		return err
	}
	d.learn(&now, found)
	return cfg.suffices(now.Durability)
}
