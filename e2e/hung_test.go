package e2e

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/servers/redisnodes"
)

// TestAHungReplicaStopsNothing stops a replica of a shard that the sale is not
// on, in a cluster that takes long to notice: every process stays ready, sells,
// makes new lines, and starts again.
func TestAHungReplicaStopsNothing(t *testing.T) {
	t.Parallel()
	s := openStoresOn(t, onCluster, testkit.NewDatabase(t, "mysql"), nil)
	c := startCluster(t, s, system{layout: layout{allRoles, allRoles}, logs: t.TempDir()})
	c.openSale(t, "hung", 100_000, 1, 10_000)
	for _, n := range s.group.(*redisnodes.Cluster).Nodes {
		require.NoError(t, redisnodes.Ask(n, func(r *redis.Client) error {
			return r.ConfigSet(t.Context(), "cluster-node-timeout", "60000").Err()
		}))
	}
	b := &breaker{cluster: c, sale: "hung"}
	master, replicas, err := s.group.Roles(t.Context(), b.hot())
	require.NoError(t, err)
	hung, err := (&harm{breaker: b, group: s.group, master: master, replicas: replicas}).elsewhere(t.Context())
	require.NoError(t, err)
	require.NotContains(t, replicas, hung)
	require.NoError(t, syscall.Kill(hung.PID(), syscall.SIGSTOP))

	buyers := &customers{t: t, cluster: c, sale: "hung", accepted: map[string]string{}}
	unready := 0
	for i, until := 0, time.Now().Add(6*time.Second); time.Now().Before(until); i++ {
		for _, n := range c.nodes {
			if !c.ready(n) {
				unready++
			}
		}
		a := buyers.order(c.nodes[i%2], fmt.Sprintf("user-%d", i))
		require.Equal(t, http.StatusAccepted, a.Status, "%s", a.Raw)
	}
	require.Zero(t, unready, "looks at which a process was not ready")
	for id, row := range buyers.recorded() {
		require.Equal(t, "confirmed", row.Status, id)
	}
	c.openSale(t, "made-meanwhile", 10, 1, 100)
	fresh := &customers{t: t, cluster: c, sale: "made-meanwhile", accepted: map[string]string{}}
	require.Equal(t, http.StatusAccepted, fresh.order(c.nodes[0], "somebody").Status)

	before := c.nodes[1].restart(restartPause, "")
	require.Eventually(t, func() bool {
		return c.nodes[1].current() != before && c.ready(c.nodes[1])
	}, startPatience, 20*time.Millisecond, "a process does not start while a replica hangs")
	require.NoError(t, syscall.Kill(hung.PID(), syscall.SIGCONT))
	require.NoError(t, s.group.AwaitWhole(t.Context()))
	buyers.clean()
}
