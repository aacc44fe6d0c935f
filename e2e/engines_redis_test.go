package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/servers"
	"sluice/internal/testkit/servers/redisnodes"
)

// The Redis that a run can have: one server behind proxies, or a group whose
// servers take over from each other and are reached directly.
const (
	onSingle   = "single"
	onCluster  = "cluster"
	onSentinel = "sentinel"
)

// redisGroup is a Redis of several servers.
type redisGroup interface {
	Roles(ctx context.Context, key string) (master *servers.Server, replicas []*servers.Server, err error)
	Failover(ctx context.Context, to *servers.Server, takeover bool) error
	AwaitWhole(ctx context.Context) error
	Addrs() []string
	Close() error
}

// openStoresOn opens stores with a Redis of the given kind.
func openStoresOn(t testing.TB, engine string, database testkit.Database, server *servers.Server) *stores {
	t.Helper()
	s := &stores{database: database, server: server}
	switch engine {
	case onCluster:
		cluster, err := redisnodes.StartCluster(t.Context())
		require.NoError(t, err)
		s.group, s.client = cluster, redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: cluster.Addrs(), DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
	case onSentinel:
		sentinel, err := redisnodes.StartSentinel(t.Context())
		require.NoError(t, err)
		s.group, s.client = sentinel, redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: redisnodes.MasterName, SentinelAddrs: sentinel.Addrs(), DisableIdentity: true,
		})
	default:
		r, err := servers.Redis(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.Close()) })
		s.redis, s.client = r, testkit.RedisClient(t, r.Addr())
	}
	if s.group != nil {
		t.Cleanup(func() { require.NoError(t, s.group.Close()) })
		t.Cleanup(func() { require.NoError(t, s.client.Close()) })
	}
	s.openSQL(t)
	return s
}

// reach returns the configuration to reach the Redis: a group directly, because its servers announce their own
// addresses, a single one through a proxy of the process's own.
func (c *cluster) reach() []string {
	s := c.stores
	switch s.group.(type) {
	case *redisnodes.Cluster:
		return []string{"SLUICE_REDIS__MODE=cluster", "SLUICE_REDIS__ADDRS=" + strings.Join(s.group.Addrs(), ",")}
	case *redisnodes.Sentinel:
		return []string{"SLUICE_REDIS__MODE=sentinel", "SLUICE_REDIS__ADDRS=" + strings.Join(s.group.Addrs(), ","),
			"SLUICE_REDIS__MASTER_NAME=" + redisnodes.MasterName}
	}
	proxy := testkit.NewProxy(c.t, s.redis.Addr())
	c.redis = append(c.redis, proxy)
	return []string{"SLUICE_REDIS__MODE=single", "SLUICE_REDIS__ADDRS=" + proxy.Addr()}
}

// promise returns the configuration of a plan in which replicas must acknowledge:
// all that a master has, so that whichever takes over has what was answered.
func (p plan) promise() []string {
	if !p.replicated {
		return nil
	}
	replicas := map[string]int{onCluster: 1, onSentinel: 2}[p.engine]
	return []string{
		"SLUICE_REDIS__DURABILITY=replicated", fmt.Sprintf("SLUICE_REDIS__REPLICAS=%d", replicas),
		"SLUICE_REDIS__REPLICA_TIMEOUT=500ms",
	}
}
