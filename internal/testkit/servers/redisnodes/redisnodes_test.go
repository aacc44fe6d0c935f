package redisnodes

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/servers"
)

// group is what a cluster and a master with sentinels have in common.
type group interface {
	Roles(ctx context.Context, key string) (*servers.Server, []*servers.Server, error)
	Failover(ctx context.Context, to *servers.Server, takeover bool) error
	AwaitWhole(ctx context.Context) error
	Close() error
}

const aKey = "{sale/0}:meta"

// set writes one field to one node, read returns it.
func set(t *testing.T, s *servers.Server, field string) {
	t.Helper()
	require.NoError(t, tell(t.Context(), s, "HSET", aKey, field, "1"))
}

func fields(t *testing.T, s *servers.Server) (found map[string]string) {
	t.Helper()
	require.NoError(t, Ask(s, func(c *redis.Client) (err error) {
		found, err = c.HGetAll(t.Context(), aKey).Result()
		return err
	}))
	return found
}

// become waits until a server is the master of the key. A failover that the servers give up, since a busy machine
// lets them wait for
// longer than they do, is asked for again.
func become(t *testing.T, g group, want *servers.Server) {
	t.Helper()
	asked := time.Now()
	require.Eventually(t, func() bool {
		master, _, err := g.Roles(t.Context(), aKey)
		if err == nil && master == want {
			return true
		}
		if time.Since(asked) > givenUp {
			_ = g.Failover(t.Context(), want, false) // refused while one is under way
			asked = time.Now()
		}
		return false
	}, 3*nodePatience, nodeLook, "%s never became the master", want.Addr())
}

// givenUp is a little more than the five seconds after which a failover that was asked for is given up.
const givenUp = 7 * time.Second

func startGroups(t *testing.T) map[string]group {
	t.Helper()
	cluster, err := StartCluster(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	sentinel, err := StartSentinel(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sentinel.Close()) })
	return map[string]group{"cluster": cluster, "sentinel": sentinel}
}

func TestAReplicaThatWasCutIsPromotedWithoutTheLastWrites(t *testing.T) {
	t.Parallel()
	for name, g := range startGroups(t) {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			master, replicas, err := g.Roles(t.Context(), aKey)
			require.NoError(t, err)
			require.NotEmpty(t, replicas)
			set(t, master, "before")
			require.Eventually(t, func() bool { return replicaHas(t.Context(), replicas[0], master) }, nodePatience,
				nodeLook)
			for _, replica := range replicas {
				require.NoError(t, CutReplica(t.Context(), replica))
			}
			set(t, master, "lost")
			master.Kill()
			var promoted *servers.Server
			require.Eventually(t, func() bool {
				promoted, _, err = g.Roles(t.Context(), aKey)
				return err == nil && promoted != master
			}, nodePatience, nodeLook)
			t.Log("promoted after", time.Since(began))
			require.Equal(t, map[string]string{"before": "1"}, fields(t, promoted))
			for _, replica := range replicas {
				require.NoError(t, MendReplica(t.Context(), replica))
			}
			require.NoError(t, master.Start(t.Context()))
			require.NoError(t, g.AwaitWhole(t.Context()))
			t.Log("whole after", time.Since(began))

			require.NoError(t, g.Failover(t.Context(), master, false))
			become(t, g, master)
			require.NoError(t, g.AwaitWhole(t.Context()))
			t.Log("back after", time.Since(began))
			require.Equal(t, map[string]string{"before": "1"}, fields(t, master), "it took the other's data over")
		})
	}
}

// replicaHas reports whether a replica has all that its master has written.
func replicaHas(ctx context.Context, replica, master *servers.Server) bool {
	a, errA := infoOf(ctx, replica, "replication")
	b, errB := infoOf(ctx, master, "replication")
	return errA == nil && errB == nil && a["slave_repl_offset"] == b["master_repl_offset"]
}

func TestASlotMovesWithItsKeys(t *testing.T) {
	t.Parallel()
	cluster, err := StartCluster(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	master, _, err := cluster.Roles(t.Context(), aKey)
	require.NoError(t, err)
	for i := range 5 {
		set(t, master, fmt.Sprint("field-", i))
		require.NoError(t, tell(t.Context(), master, "SET", fmt.Sprintf("{sale/0}:%d", i), "1"))
	}
	target, err := cluster.MoveSlot(t.Context(), aKey, time.Millisecond)
	require.NoError(t, err)
	require.NotSame(t, master, target)
	require.Len(t, fields(t, target), 5)
	require.NoError(t, cluster.AwaitWhole(t.Context()))
	owner, _, err := cluster.Roles(t.Context(), aKey)
	require.NoError(t, err)
	require.Same(t, target, owner)
	require.ErrorContains(t, tell(t.Context(), master, "GET", "{sale/0}:1"), "MOVED")
}
