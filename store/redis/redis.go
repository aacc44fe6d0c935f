// Package redis opens a Redis, or starts one if none is configured. It refuses one that could lose acknowledged writes.
// It knows nothing of the data in it.
package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// startLimit bounds the wait for a server that is still loading its data.
const startLimit = 2 * time.Minute

// Store is an open Redis that passed the checks of Open.
type Store struct {
	Client     goredis.UniversalClient
	Mode       string // the mode that auto resolved to; never ModeAuto
	Where      string // its addresses, or the folder of a managed server
	Version    string // the oldest among the servers checked; empty when embedded
	Durability string // weakest among the servers checked: one of the Durability constants
	Durable    bool   // an answered write survives the loss of the host: Durability is DurabilityAlways

	replicas int       // online, the fewest of any master checked
	server   io.Closer // the managed or embedded server; nil for an external one
}

// Open connects to the Redis of cfg, and starts a managed or embedded one. It refuses a version before 7, a replica,
// and an eviction policy, because they could lose an admitted order. It waits while the server loads its data, at most
// two minutes or until ctx ends. It logs what auto resolved to. The client never repeats a command by itself, because a
// script that timed out may have run. Its calls end with their context.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg, err := resolveMode(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	r, err := connect(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if err := r.examine(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("redis (%s): %w", where(cfg), err), r.Close())
	}
	if err := cfg.suffices(r.Durability); err != nil {
		return nil, errors.Join(fmt.Errorf("redis (%s): %w", where(cfg), err), r.Close())
	}
	r.announce(ctx, cfg, log)
	return r, nil
}

// connect makes the client of a Redis whose mode is resolved, and starts a managed or embedded one. It asks nothing.
func connect(ctx context.Context, cfg Config, log *slog.Logger) (*Store, error) {
	r := &Store{Mode: cfg.Mode, Where: where(cfg)}
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	if r.server, err = startServer(ctx, cfg, opts, log); err != nil {
		return nil, err
	}
	r.Client = newClient(opts, cfg.Mode)
	return r, nil
}

// Close closes the connections. If Open started the server, Close stops it and waits for its end. Call it once.
func (r *Store) Close() error {
	err := r.Client.Close()
	if r.server != nil {
		err = errors.Join(err, r.server.Close())
	}
	return err
}

// ErrPrivate says that the Redis is inside or below one process, so that no other can use it.
var ErrPrivate = errors.New("redis runs inside the process that uses it")

// Peek calls look with a client of the Redis of cfg, without the checks of Open and without starting one. look must not
// use the client after it returns.
func Peek(ctx context.Context, cfg Config, look func(context.Context, goredis.UniversalClient) error) error {
	if len(cfg.Addrs) == 0 {
		return ErrPrivate
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

// startServer starts the server of the managed and embedded modes and points
// opts at it.
func startServer(
	ctx context.Context, cfg Config, opts *goredis.UniversalOptions, log *slog.Logger,
) (io.Closer, error) {
	switch cfg.Mode {
	case ModeEmbedded:
		e, err := startEmbedded()
		if err != nil {
			return nil, fmt.Errorf("embedded Redis: %w", err)
		}
		opts.Addrs, opts.Username, opts.Password = []string{e.addr()}, "", e.password
		return e, nil
	case ModeManaged:
		m, err := startManaged(ctx, cfg.Dir, log)
		if err != nil {
			return nil, fmt.Errorf("managed redis-server in redis.dir %s: %w", cfg.Dir, err)
		}
		opts.Addrs, opts.Username, opts.Password = []string{"managed:0"}, "", m.password
		// The address may change when the server is started again.
		opts.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) { return m.dial(ctx) }
		return m, nil
	}
	return nil, nil
}

// announce logs what was opened and how orders could be lost, if at all.
func (r *Store) announce(ctx context.Context, cfg Config, log *slog.Logger) {
	attrs := []any{"mode", r.Mode, "address", where(cfg), "version", r.Version, "durability", r.Durability}
	if r.Durable {
		log.InfoContext(ctx, "redis is open", attrs...)
		return
	}
	log.WarnContext(ctx, "redis is open but not durable: "+describeRisk(r.Durability), attrs...)
}

func where(cfg Config) string {
	switch cfg.Mode {
	case ModeEmbedded:
		return "in memory"
	case ModeManaged:
		return cfg.Dir
	}
	return strings.Join(cfg.Addrs, ",")
}

// randomPassword returns a password that protects an own server from other users of the host.
func randomPassword() string { return rand.Text() }
