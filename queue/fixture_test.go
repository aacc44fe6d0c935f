package queue_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// box is one line on one Redis, with what these tests ask of it besides.
type box struct {
	*queues.Bench
	tried int // requests of tryOne
}

func newBox(t testing.TB, addr string, s queue.Settings) *box {
	t.Helper()
	return &box{Bench: queues.Open(t, addr, s)}
}

func boxOn(t testing.TB, rdb *redis.Client, sale string, s queue.Settings) *box {
	t.Helper()
	return &box{Bench: queues.OpenOn(t, rdb, sale, s)}
}

// setBack lets an entry be of a time before Redis' clock was set back by hours.
func (b *box) setBack(key, member string) {
	b.T.Helper()
	later := time.Now().Add(2 * time.Hour).UnixMilli()
	require.NoError(b.T, b.Redis.ZAddXX(b.Ctx, b.Key(key), redis.Z{Score: float64(later), Member: member}).Err())
}

// empty takes every ticket out of the line's lists.
func (b *box) empty() {
	b.T.Helper()
	for _, name := range []string{"wait", "suspect", "leased", "lease", "retry"} {
		require.NoError(b.T, b.Redis.Del(b.Ctx, b.Key(name)).Err())
	}
}

// lose deletes the line, as a Redis without its data has it.
func (b *box) lose() {
	b.T.Helper()
	keys, err := b.Redis.Keys(b.Ctx, b.Key("*")).Result()
	require.NoError(b.T, err)
	if len(keys) > 0 {
		require.NoError(b.T, b.Redis.Del(b.Ctx, keys...).Err())
	}
}

// held returns the orders a user holds, read together with a line that does not exist.
func (b *box) held(user string) []string {
	b.T.Helper()
	held, failed := b.Lines.HeldBy(b.Ctx, []string{"missing", b.Sale()}, user)
	require.Empty(b.T, failed)
	require.NotContains(b.T, held, "missing")
	return held[b.Sale()]
}

// dump returns everything that Redis holds.
func (b *box) dump() map[string]any {
	b.T.Helper()
	names, err := b.Redis.Keys(b.Ctx, "*").Result()
	require.NoError(b.T, err)
	all := make(map[string]any, len(names))
	for _, name := range names {
		switch kind := b.Redis.Type(b.Ctx, name).Val(); kind {
		case "hash":
			all[name] = b.Redis.HGetAll(b.Ctx, name).Val()
		case "list":
			all[name] = b.Redis.LRange(b.Ctx, name, 0, -1).Val()
		case "zset":
			all[name] = b.Redis.ZRangeWithScores(b.Ctx, name, 0, -1).Val()
		case "string":
			all[name] = b.Redis.Get(b.Ctx, name).Val()
		default:
			require.Fail(b.T, "unexpected type", "%s is a %s", name, kind)
		}
	}
	return all
}
