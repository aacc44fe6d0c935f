package redis

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestRedisConfigNamesTheKeyAtFault(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"mode":         {func(c *Config) { c.Mode = "redis" }, "redis.mode must be one of auto, embedded"},
		"single, none": {func(c *Config) { c.Mode = ModeSingle }, "redis.addrs must hold exactly one"},
		"auto, two": {func(c *Config) { c.Addrs = []string{"a:1", "b:2"} },
			"redis.mode must be sentinel or cluster"},
		"cluster, none": {func(c *Config) { c.Mode = ModeCluster }, "redis.addrs must hold at least one"},
		"managed, one": {func(c *Config) { c.Mode, c.Addrs = ModeManaged, []string{"a:1"} },
			"redis.addrs must be empty"},
		"no port": {func(c *Config) { c.Addrs = []string{"redis"} },
			`redis.addrs must hold host:port, for example 127.0.0.1:6379, got "redis"`},
		"socket, cluster": {func(c *Config) { c.Mode, c.Addrs = ModeCluster, []string{"/a"} },
			"redis.addrs must hold host:port"},
		"url": {func(c *Config) { c.Addrs = []string{"redis://:pw@h:1"} },
			"redis.addrs must hold host:port, not a URL"},
		"no master": {func(c *Config) { c.Mode, c.Addrs = ModeSentinel, []string{"a:1"} },
			"redis.master_name must be set"},
		"cluster database": {func(c *Config) { c.Mode, c.Addrs, c.DB = ModeCluster, []string{"a:1"}, 1 },
			"redis.db must be 0"},
		"database":     {func(c *Config) { c.DB = 16 }, "redis.db must be between 0 and 15, got 16"},
		"timeout":      {func(c *Config) { c.Timeout = 0 }, "redis.timeout must be between 10ms and 1m0s, got 0s"},
		"empty prefix": {func(c *Config) { c.Prefix = "" }, "redis.prefix must be 1 to 32 letters"},
		"prefix with brace": {func(c *Config) { c.Prefix = "a{b" },
			`redis.prefix must be 1 to 32 letters, digits, dots, hyphens or underscores, got "a{b"`},
		"prefix with colon": {func(c *Config) { c.Prefix = "a:b" }, "redis.prefix"},
		"long prefix":       {func(c *Config) { c.Prefix = strings.Repeat("a", 33) }, "redis.prefix"},
		"pool":              {func(c *Config) { c.PoolSize = -1 }, "redis.pool_size"},
		"dir":               {func(c *Config) { c.Dir = "" }, "redis.dir"},
		"tls off":           {func(c *Config) { c.TLS.CAFile = "x" }, "redis.tls.enabled must be true"},
		"tls embedded":      {func(c *Config) { c.TLS.Enabled = true }, "redis.tls.enabled must be false"},
		"tls half": {func(c *Config) { *c = singleConfig("a:1"); c.TLS = TLS{Enabled: true, KeyFile: "k"} },
			"redis.tls.cert_file"},
		"user alone":        {func(c *Config) { c.Username = "u" }, "redis.password must be set"},
		"sentinel user too": {func(c *Config) { c.SentinelUsername = "u" }, "redis.sentinel_password must be set"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			require.NoError(t, cfg.Validate())
			tc.change(&cfg)
			require.ErrorContains(t, cfg.Validate(), tc.want)
		})
	}
}

func TestSingleTellsItsDurability(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args    []string
		want    string
		durable bool
	}{
		"no file":        {nil, DurabilityNone, false},
		"never synced":   {[]string{"--appendonly", "yes", "--appendfsync", "no"}, DurabilityNone, false},
		"each second":    {[]string{"--appendonly", "yes", "--appendfsync", "everysec"}, DurabilityEverySec, false},
		"each write":     {[]string{"--appendonly", "yes", "--appendfsync", "always"}, DurabilityAlways, true},
		"config is kept": {[]string{"--appendonly", "yes", "--rename-command", "CONFIG", ""}, DurabilityUnknown, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := openRedis(t, singleConfig(runRedis(t, tc.args...)))
			require.Equal(t, tc.want, r.Durability)
			require.Equal(t, tc.durable, r.Durable)
			require.NoError(t, r.Ping(t.Context()))
			require.NotEmpty(t, r.Version)
			require.NoError(t, r.Close())
		})
	}
}

func TestServersThatCouldLoseOrdersAreRefused(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"allkeys-lru", "volatile-lru", "allkeys-random", "volatile-ttl"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			refuseRedis(t, singleConfig(runRedis(t, "--maxmemory-policy", policy)),
				"maxmemory-policy is "+policy, "delete admitted orders", "set maxmemory-policy noeviction")
		})
	}
	t.Run("replica", func(t *testing.T) {
		t.Parallel()
		refuseRedis(t, singleConfig(runRedis(t, "--replicaof", "127.0.0.1 1")), "is a replica", "redis.addrs")
	})
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		addr, _ := freeAddr(t)
		refuseRedis(t, singleConfig(addr), addr, "connection refused")
	})
}

func TestOldVersionsAreRefused(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, checkVersion("6.2.14"), "version 6.2.14 is too old: Redis 7 or newer is needed")
	require.ErrorContains(t, checkVersion(""), "cannot read the version")
	require.NoError(t, checkVersion("7.0.0"))
	require.NoError(t, checkVersion("8.4.0"))
	require.True(t, olderVersion("7.0.15", "7.2.0"))
	require.True(t, olderVersion("7.2", "7.2.1"))
	require.False(t, olderVersion("7.10.0", "7.9.9"))
	require.ErrorContains(t, checkPolicy(""), "maxmemory_policy")
}

func TestPasswordIsUsedAndItsErrorTellsTheKey(t *testing.T) {
	t.Parallel()
	cfg := singleConfig(runRedis(t, "--requirepass", "hunter2hunter2"))
	refuseRedis(t, cfg, "check redis.username and redis.password")
	cfg.Password = "wrong-password"
	log, _ := newTestLog()
	_, err := Open(t.Context(), cfg, log)
	require.ErrorContains(t, err, "check redis.username and redis.password")
	require.NotContains(t, err.Error(), "wrong-password")
	cfg.Password = "hunter2hunter2"
	require.NoError(t, openRedis(t, cfg).Close())
}

func TestUnixSocketAddress(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "r.sock")
	runRedis(t, "--unixsocket", path)
	// The server listens on TCP, by which it was found ready, before it does here.
	require.Eventually(t, func() bool {
		conn, err := net.Dial("unix", path)
		return err == nil && conn.Close() == nil
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, openRedis(t, singleConfig(path)).Close())
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	writeCertificate(t, cert, key)
	addr, port := freeAddr(t)
	startServerProcess(t, dir, []string{
		"--port", "0", "--tls-port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir,
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "yes",
	})
	awaitTCP(t, addr)

	cfg := singleConfig(addr)
	cfg.TLS = TLS{Enabled: true, CAFile: cert, CertFile: cert, KeyFile: key, ServerName: "redis.test"}
	require.NoError(t, openRedis(t, cfg).Close())

	cfg.TLS.ServerName = "other.test"
	refuseRedis(t, cfg, "other.test")
	cfg.TLS.CAFile = key
	refuseRedis(t, cfg, "redis.tls.ca_file", "holds no PEM certificate")
	cfg.TLS.CAFile = filepath.Join(dir, "none")
	refuseRedis(t, cfg, "redis.tls.ca_file")
	cfg.TLS = TLS{Enabled: true, CertFile: cert, KeyFile: cert}
	refuseRedis(t, cfg, "redis.tls.cert_file")
}

func TestAutoChoice(t *testing.T) {
	addr := runRedis(t)
	cfg := singleConfig(addr)
	cfg.Mode = ModeAuto
	r := openRedis(t, cfg)
	require.Equal(t, ModeSingle, r.Mode)
	require.NoError(t, r.Close())

	cfg = DefaultConfig()
	cfg.Dir = shortDir(t)
	log, out := newTestLog()
	r, err := Open(t.Context(), cfg, log)
	require.NoError(t, err)
	require.Equal(t, ModeManaged, r.Mode)
	require.True(t, r.Durable)
	require.NoError(t, r.Close())
	require.Contains(t, out.String(), "private child")

	bin := t.TempDir()
	writeFile(t, filepath.Join(bin, "redis-server"), "#!/bin/sh\necho 'Redis server v=6.2.7 sha=0:0'\n")
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	require.NotEmpty(t, sh)
	t.Setenv("PATH", bin)
	log, out = newTestLog()
	r, err = Open(t.Context(), cfg, log)
	require.NoError(t, err)
	require.Equal(t, ModeEmbedded, r.Mode)
	require.NoError(t, r.Close())
	require.Contains(t, out.String(), "version 6.2.7 is too old")
	require.Contains(t, out.String(), "waiting orders are lost when this process ends")
	refuseRedis(t, managedConfig(cfg.Dir), "version 6.2.7 is too old")
}

func TestPoolCollector(t *testing.T) {
	t.Parallel()
	var stats atomic.Pointer[goredis.PoolStats]
	stats.Store(&goredis.PoolStats{Hits: 7, Misses: 2, Timeouts: 1, StaleConns: 3, WaitCount: 4,
		WaitDurationNs: 1_500_000_000, TotalConns: 5, IdleConns: 2, PendingRequests: 6})
	r := openRedis(t, func() Config { c := DefaultConfig(); c.Mode = ModeEmbedded; return c }())
	c := NewPoolCollector(r.Client)
	require.Equal(t, 9, testutil.CollectAndCount(c))
	c.stats = stats.Load
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(c))
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP sluice_redis_pool_connections Open connections by state.
# TYPE sluice_redis_pool_connections gauge
sluice_redis_pool_connections{state="idle"} 2
sluice_redis_pool_connections{state="used"} 3
# HELP sluice_redis_pool_wait_seconds_total Time commands spent waiting for a connection.
# TYPE sluice_redis_pool_wait_seconds_total counter
sluice_redis_pool_wait_seconds_total 1.5
`), "sluice_redis_pool_connections", "sluice_redis_pool_wait_seconds_total"))
	require.NoError(t, r.Close())
}
