package redis

import (
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestEmbeddedKeepsRealTime(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Mode = ModeEmbedded
	r := openRedis(t, cfg)
	require.Equal(t, DurabilityMemory, r.Durability)
	require.False(t, r.Durable)

	now, err := r.Client.Time(t.Context()).Result()
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), now, 5*time.Second)
	parts, err := goredis.NewScript(`return redis.call('TIME')`).Run(t.Context(), r.Client, nil).StringSlice()
	require.NoError(t, err)
	require.Len(t, parts, 2)

	require.NoError(t, r.Client.Set(t.Context(), "short", 1, 1500*time.Millisecond).Err())
	require.NoError(t, r.Client.Set(t.Context(), "long", 1, time.Hour).Err())
	require.Eventually(t, func() bool {
		return r.Client.Exists(t.Context(), "short").Val() == 0
	}, 10*time.Second, 50*time.Millisecond)
	require.EqualValues(t, 1, r.Client.Exists(t.Context(), "long").Val())
	require.NoError(t, r.Close())
	require.Error(t, r.Ping(t.Context()))
}

func TestEmbeddedIsClosedToOthers(t *testing.T) {
	t.Parallel()
	e, err := startEmbedded()
	require.NoError(t, err)
	client := goredis.NewClient(&goredis.Options{Addr: e.addr(), MaxRetries: -1})
	require.ErrorContains(t, client.Ping(t.Context()).Err(), "NOAUTH")
	require.NoError(t, client.Close())
	require.NoError(t, e.Close())
}
