package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/hosts"
	"sluice/internal/testkit/servers"
)

// startParted starts all stores and all processes.
func startParted(t *testing.T, network *hosts.Network, durability string) *parted {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &parted{network: network, cluster: &cluster{
		t: t, logs: keptLogs(t, "partitions-"+durability), stop: stop, lasts: ctx, stores: &stores{},
		client: &http.Client{Timeout: 4 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}},
	}}
	database, err := network.Host(dataHost).MySQL(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	p.stores.database = testkit.NewDatabaseOn(t, testkit.Database{Driver: "mysql", DSN: servers.MySQLDSN(database, "")})
	p.stores.server = database
	p.stores.openSQL(t)
	p.startRedis(t)
	p.stores.client = sentinelClient(t, p.sentinels)
	for _, one := range []struct{ host, roles string }{
		{gatewayA, "gateway"}, {gatewayB, "gateway"}, {workHost, "worker,notifier"},
	} {
		env := append(settingsOfParted(network.Address(one.host), p.stores.database.DSN, durability),
			"SLUICE_REDIS__ADDRS="+strings.Join(p.sentinels, ","))
		p.nodes = append(p.nodes, p.node(t, one.host, one.roles, env))
	}
	p.launch(ctx)
	return p
}

// keptLogs returns a folder that stays when the test fails.
func keptLogs(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "data", name))
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.MkdirAll(dir, 0o755)) // #nosec G301 -- for whoever tests
	t.Cleanup(func() {
		if !t.Failed() {
			require.NoError(t, os.RemoveAll(dir))
		}
	})
	return dir
}

// startRedis starts a master on the first host, replicas on the others, and a
// sentinel on each.
func (p *parted) startRedis(t *testing.T) {
	t.Helper()
	master := ""
	for _, host := range []string{redisA, redisB, redisC} {
		arguments := []string{"--repl-diskless-sync-delay", "0"}
		if master != "" {
			arguments = append(arguments, "--replicaof", strings.Replace(master, ":", " ", 1))
		}
		r, err := p.network.Host(host).Redis(t.Context(), arguments...)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.Close()) })
		if master == "" {
			master, p.stores.redis = r.Addr(), r
		}
	}
	for _, host := range []string{redisA, redisB, redisC} {
		s, err := p.network.Host(host).Sentinel(t.Context(), servers.Watched{Name: masterName, Master: master,
			Quorum: 2, Failover: 5 * time.Second})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		p.sentinels = append(p.sentinels, s.Addr())
	}
}

// sentinelClient follows the master as the processes do.
func sentinelClient(t *testing.T, sentinels []string) *redis.Client {
	t.Helper()
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: masterName, SentinelAddrs: sentinels, DisableIdentity: true,
	})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	require.Eventually(t, func() bool {
		text, err := client.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(text, "connected_slaves:2") && strings.Count(text, "state=online") == 2
	}, mendPatience, 20*time.Millisecond, "both replicas follow")
	return client
}

func settingsOfParted(address, dsn, durability string) []string {
	return []string{
		"SLUICE_REDIS__MODE=sentinel", "SLUICE_REDIS__MASTER_NAME=" + masterName, "SLUICE_REDIS__DURABILITY=" +
			durability,
		"SLUICE_REDIS__TIMEOUT=1s", "SLUICE_REDIS__DIAL_TIMEOUT=1s",
		"SLUICE_DATABASE__DRIVER=mysql", "SLUICE_DATABASE__DSN=" + dsn + "?timeout=1s",
		"SLUICE_DATABASE__TX_TIMEOUT=2s", "SLUICE_DATABASE__MAX_CONNS=8", "SLUICE_AUTH__SECRET=" + secret,
		"SLUICE_HTTP__ADDR=" + address + ":0", "SLUICE_OPS__ADDR=" + address + ":0",
		"SLUICE_QUEUE__LEASE=" + lease.String(), "SLUICE_QUEUE__BACKOFF=50ms", "SLUICE_POOL__SIZE=3",
		"SLUICE_NOTIFY__LEASE=2s", "SLUICE_NOTIFY__TIMEOUT=1s", "SLUICE_NOTIFY__RETRY_UNIT=200ms",
		"SLUICE_LIMITS__GLOBAL_RPS=0", "SLUICE_LIMITS__PER_USER_RPS=0", "SLUICE_LIMITS__PER_IP_RPS=0",
		"SLUICE_LOG__LEVEL=info", "SLUICE_LOG__FORMAT=json", "SLUICE_STOP__GRACE=10s",
	}
}

// node returns a process on a host. Its program is a script, because the supervisor knows nothing of hosts; in the end
// the process is Sluice itself.
func (p *parted) node(t *testing.T, host, roles string, env []string) *node {
	t.Helper()
	script := filepath.Join(p.logs, host+".sh")
	command := strings.Join(p.network.Command(host, os.Getenv(binaryVariable)), " ")
	text := "#!/bin/sh\nexec " + command + " \"$@\"\n"
	require.NoError(t, os.WriteFile(script, []byte(text), 0o700)) // #nosec G306 -- it is run
	return &node{name: host, binary: script, roles: roles, env: env, pause: restartPause,
		logPath: filepath.Join(p.logs, host+".log")}
}

// master returns the host of the Redis that the sentinels name, and the hosts of the others.
func (p *parted) master(t *testing.T) (master string, others []string) {
	t.Helper()
	sentinel := redis.NewSentinelClient(&redis.Options{Addr: p.sentinels[1], DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	defer sentinel.Close()
	named, err := sentinel.GetMasterAddrByName(t.Context(), masterName).Result()
	require.NoError(t, err)
	for _, host := range []string{redisA, redisB, redisC} {
		if p.network.Address(host) == named[0] {
			master = host
		} else {
			others = append(others, host)
		}
	}
	require.NotEmpty(t, master, "%v", named)
	return master, others
}
