package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// minRedis is the oldest major version the scripts run on.
const minRedis = 7

// startLimit bounds the wait for a server that is still loading its data.
const startLimit = 2 * time.Minute

// Redis is an open Redis that passed the checks of OpenRedis.
type Redis struct {
	Client     redis.UniversalClient
	Mode       string // what auto became; never ModeAuto
	Where      string // its addresses, or the folder of a managed server
	Version    string // the oldest among the servers checked; empty when embedded
	Durability string // weakest among the servers checked: one of the Durability constants
	Durable    bool   // an answered write survives the loss of the host: Durability is DurabilityAlways

	replicas int       // online, the fewest of any master checked
	server   io.Closer // the managed or embedded server behind the client; nil when it is somebody else's
}

// OpenRedis reaches the Redis that cfg asks for, starting a managed or
// embedded one itself, and refuses one on which an admitted order could be
// lost without notice: a version before 7, a replica, or an eviction policy.
// It waits while the server loads its data, at most two minutes or until ctx
// ends. log receives the choice made for auto and what it means.
//
// The client never repeats a command by itself, because a script that timed
// out may have run: callers decide. Its calls end with their context.
func OpenRedis(ctx context.Context, cfg RedisConfig, log *slog.Logger) (*Redis, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg, err := settleMode(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	r := &Redis{Mode: cfg.Mode, Where: where(cfg)}
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	if r.server, err = startServer(ctx, cfg, opts, log); err != nil {
		return nil, err
	}
	r.Client = newClient(opts, cfg.Mode)
	if err := r.examine(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("redis (%s): %w", where(cfg), err), r.Close())
	}
	if err := cfg.suffices(r.Durability); err != nil {
		return nil, errors.Join(fmt.Errorf("redis (%s): %w", where(cfg), err), r.Close())
	}
	r.announce(ctx, cfg, log)
	return r, nil
}

// Close ends the connections and stops the server if OpenRedis started it,
// waiting until it is gone. Call it once.
func (r *Redis) Close() error {
	err := r.Client.Close()
	if r.server != nil {
		err = errors.Join(err, r.server.Close())
	}
	return err
}

// startServer starts the server of the managed and embedded modes and points
// opts at it.
func startServer(ctx context.Context, cfg RedisConfig, opts *redis.UniversalOptions, log *slog.Logger) (io.Closer, error) {
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

func (c RedisConfig) options() (*redis.UniversalOptions, error) {
	conf, err := c.TLS.load()
	if err != nil {
		return nil, err
	}
	return &redis.UniversalOptions{
		Addrs: c.Addrs, MasterName: c.MasterName, DB: c.DB, TLSConfig: conf,
		Username: c.Username, Password: c.Password,
		SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword,
		IsClusterMode: c.Mode == ModeCluster,
		DialTimeout:   c.DialTimeout, DialerRetries: 1,
		ReadTimeout: c.Timeout, WriteTimeout: c.Timeout, PoolTimeout: c.Timeout,
		PoolSize: c.PoolSize, ContextTimeoutEnabled: true, MaxRetries: -1,
		DisableIdentity:          true, // CLIENT SETINFO is unknown before 7.2
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}, nil
}

func newClient(opts *redis.UniversalOptions, mode string) redis.UniversalClient {
	client := redis.NewUniversalClient(opts)
	if mode == ModeCluster {
		// MaxRetries does not reach the cluster client's own redirect loop.
		client.AddHook(sendOnce{})
	}
	return client
}

// settleMode replaces auto by the mode it stands for here.
func settleMode(ctx context.Context, cfg RedisConfig, log *slog.Logger) (RedisConfig, error) {
	if cfg.Mode != ModeAuto {
		return cfg, nil
	}
	if len(cfg.Addrs) > 0 {
		cfg.Mode = ModeSingle
		return cfg, nil
	}
	version, err := serverVersion(ctx)
	if ctx.Err() != nil {
		return cfg, ctx.Err()
	}
	if err != nil {
		cfg.Mode = ModeEmbedded
		log.WarnContext(ctx, "no usable redis-server: using an in-memory Redis inside this process", "reason", err)
		return cfg, nil
	}
	cfg.Mode = ModeManaged
	log.InfoContext(ctx, "starting the installed redis-server as a private child", "version", version, "dir", cfg.Dir)
	return cfg, nil
}

var versionPattern = regexp.MustCompile(`\bv=(\d+(?:\.\d+)*)`)

// serverVersion returns the version of the redis-server on PATH, or why it
// cannot be used.
func serverVersion(ctx context.Context) (string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", errors.New("redis-server is not on PATH: install version 7 or newer")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output() // #nosec G204 -- the redis-server found on this machine
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return "", fmt.Errorf("%s --version printed no version: %q", path, out)
	}
	return string(match[1]), checkVersion(string(match[1]))
}

func checkVersion(version string) error {
	major, err := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	if err != nil {
		return fmt.Errorf("cannot read the version %q", version)
	}
	if major < minRedis {
		return fmt.Errorf("version %s is too old: Redis %d or newer is needed", version, minRedis)
	}
	return nil
}

// announce logs what was opened and, when orders could be lost, how.
func (r *Redis) announce(ctx context.Context, cfg RedisConfig, log *slog.Logger) {
	attrs := []any{"mode", r.Mode, "address", where(cfg), "version", r.Version, "durability", r.Durability}
	if r.Durable {
		log.InfoContext(ctx, "redis is open", attrs...)
		return
	}
	log.WarnContext(ctx, "redis is open but not durable: "+durabilityRisk(r.Durability), attrs...)
}

func where(cfg RedisConfig) string {
	switch cfg.Mode {
	case ModeEmbedded:
		return "in memory"
	case ModeManaged:
		return cfg.Dir
	}
	return strings.Join(cfg.Addrs, ",")
}

// sendOnce keeps a cluster client from sending a command again after an error
// that leaves open whether it ran. Redirects are still followed.
type sendOnce struct{}

func (sendOnce) DialHook(next redis.DialHook) redis.DialHook { return next }

func (sendOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		// Commands that fan out over shards are told apart by their Go type,
		// so only those that go to one node may be wrapped.
		switch cmd.Name() {
		case "eval", "evalsha", "fcall", "lpush", "rpush", "lpop", "rpop", "lmove", "incr", "incrby", "decrby", "hincrby":
			cmd = onceCmd{cmd}
		}
		return next(ctx, cmd)
	}
}

func (sendOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		once := make([]redis.Cmder, len(cmds))
		for i, cmd := range cmds {
			once[i] = cmd
			// The frame of a transaction is told apart by its Go type.
			if name := cmd.Name(); name != "multi" && name != "exec" {
				once[i] = onceCmd{cmd}
			}
		}
		return next(ctx, once)
	}
}

type onceCmd struct{ redis.Cmder }

func (onceCmd) NoRetry() bool { return true }

// randomPassword guards a server of our own against other users of the host.
func randomPassword() string { return rand.Text() }
