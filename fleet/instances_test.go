package fleet_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/fleet"
	"sluice/internal/testkit"
)

func TestInstancesSayThatTheyRun(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) { instancesSayThatTheyRun(t, testkit.RedisClient(t, kind.Addr)) })
	}
}

func instancesSayThatTheyRun(t *testing.T, rdb redis.UniversalClient) {
	require.NoError(t, rdb.Del(t.Context(), "sluice:{instances}").Err())
	instances := fleet.NewInstances(rdb, "sluice", slog.New(slog.DiscardHandler))
	started := time.UnixMilli(1_800_000_000_000).UTC()
	self := fleet.Instance{ID: "a", Roles: []string{"gateway"}, Version: "v1", ConfigVersion: 3, ConfigFile: "abc",
		Payments: true, StartedAt: started}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		instances.Run(ctx, func() fleet.Instance { return self })
	}()
	var found []fleet.Instance
	require.Eventually(t, func() bool {
		var err error
		found, err = instances.List(t.Context())
		require.NoError(t, err)
		return len(found) == 1
	}, patience, 5*time.Millisecond)
	require.WithinDuration(t, time.Now(), found[0].LastSeen, time.Minute)
	found[0].LastSeen = time.Time{}
	require.Equal(t, []fleet.Instance{self}, found)
	cancel()
	<-done
	found, err := instances.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, found, "it has said goodbye")

	// One that dies without a word lapses, and so does what nobody can read.
	past := "1000 2000 {}"
	require.NoError(t, rdb.HSet(t.Context(), "sluice:{instances}", "dead", past, "junk", "x").Err())
	found, err = instances.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, found)
	require.Zero(t, rdb.HLen(t.Context(), "sluice:{instances}").Val())
}
