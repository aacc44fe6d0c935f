package redis

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestClusterWithOneSeed(t *testing.T) {
	t.Parallel()
	addr := runRedis(t, "--cluster-enabled", "yes")
	refuseRedis(t, singleConfig(addr), "set redis.mode to cluster")
	do(t, addr, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)

	cfg := singleConfig(addr)
	cfg.Mode = ModeCluster
	var r *Store
	require.Eventually(t, func() bool {
		log, _ := newTestLog()
		var err error
		r, err = Open(t.Context(), cfg, log)
		return err == nil && r.Client.Set(t.Context(), "{a}:b", "1", 0).Err() == nil
	}, 10*time.Second, 50*time.Millisecond)
	require.IsType(t, &goredis.ClusterClient{}, r.Client)
	require.Equal(t, DurabilityNone, r.Durability)
	got, err := goredis.NewScript(`return redis.call('GET', KEYS[1])`).Run(t.Context(), r.Client,
		[]string{"{a}:b"}).Text()
	require.NoError(t, err)
	require.Equal(t, "1", got)
	_, err = r.Client.TxPipelined(t.Context(), func(p goredis.Pipeliner) error {
		p.Incr(t.Context(), "{a}:b")
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, r.Close())

	do(t, addr, "CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
	refuseRedis(t, cfg, "node ", "maxmemory-policy is allkeys-lfu")
	refuseRedis(t, func() Config { c := singleConfig(runRedis(t)); c.Mode = ModeCluster; return c }(), "redis.mode")
}

// TestNothingIsSentTwice checks that a script whose reply is lost is not sent again, because it may have run.
func TestNothingIsSentTwice(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{ModeSingle, ModeCluster} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var args []string
			if mode == ModeCluster {
				args = []string{"--cluster-enabled", "yes"}
			}
			addr := runRedis(t, args...)
			cfg := singleConfig(addr)
			cfg.Mode, cfg.Timeout = mode, 300*time.Millisecond
			if mode == ModeCluster {
				do(t, addr, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
			}
			r := openWhenReady(t, cfg)

			ctx := context.Background()
			require.NoError(t, r.Client.Set(ctx, "n", 0, 0).Err())
			slow := goredis.NewScript(`redis.call('INCR', KEYS[1])
				local t = redis.call('TIME') local stop = t[1] * 1000000 + t[2] + 600000
				repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > stop
				return 1`)
			require.Error(t, slow.Eval(ctx, r.Client, []string{"n"}).Err())
			requireCount(t, r, "1")
			_, err := r.Client.Pipelined(ctx, func(p goredis.Pipeliner) error {
				slow.Eval(ctx, p, []string{"n"})
				return nil
			})
			require.Error(t, err)
			requireCount(t, r, "2")
			require.NoError(t, r.Close())
		})
	}
}

func openWhenReady(t *testing.T, cfg Config) *Store {
	t.Helper()
	log, _ := newTestLog()
	var r *Store
	require.Eventually(t, func() bool {
		var err error
		if r, err = Open(t.Context(), cfg, log); err != nil {
			return false
		}
		if err = r.Client.Get(t.Context(), "n").Err(); err == nil || err == goredis.Nil {
			return true
		}
		require.NoError(t, r.Close())
		return false
	}, 10*time.Second, 50*time.Millisecond)
	return r
}

// requireCount reads n when the server is free again, and again a little later. A repeated script would already wait in
// its socket.
func requireCount(t *testing.T, r *Store, want string) {
	t.Helper()
	require.Eventually(t, func() bool {
		got, err := r.Client.Get(context.Background(), "n").Result()
		return err == nil && got == want
	}, 10*time.Second, 20*time.Millisecond)
	require.Never(t, func() bool {
		got, err := r.Client.Get(context.Background(), "n").Result()
		return err != nil || got != want
	}, 700*time.Millisecond, 50*time.Millisecond)
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	master := runRedis(t, "--requirepass", "pw", "--appendonly", "yes", "--appendfsync", "always")
	host, port, _ := strings.Cut(master, ":")
	dir := t.TempDir()
	conf := filepath.Join(dir, "sentinel.conf")
	addr, sentinelPort := freeAddr(t)
	writeFile(t, conf, "port "+sentinelPort+"\nbind 127.0.0.1\ndir "+dir+"\n"+
		"sentinel monitor line "+host+" "+port+" 1\nsentinel auth-pass line pw\nrequirepass sentinelpw\n")
	startServerProcess(t, dir, []string{conf, "--sentinel"})
	awaitTCP(t, addr)

	cfg := DefaultConfig()
	cfg.Mode, cfg.Addrs, cfg.MasterName = ModeSentinel, []string{addr}, "line"
	cfg.Password, cfg.SentinelPassword = "pw", "sentinelpw"
	r := openRedis(t, cfg)
	require.Equal(t, DurabilityAlways, r.Durability)
	require.NoError(t, r.Client.Set(t.Context(), "a", 1, 0).Err())
	require.NoError(t, r.Close())

	cfg.MasterName = "other"
	refuseRedis(t, cfg, "check redis.addrs, redis.master_name")
	wrong := singleConfig(addr)
	wrong.Password = "sentinelpw"
	refuseRedis(t, wrong, "this is a sentinel")
}
