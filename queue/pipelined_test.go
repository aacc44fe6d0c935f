package queue_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
	"sluice/store/redis"
)

// linesOf returns n lines on one Redis, and an ask of each.
func linesOf(t *testing.T, addr string, n int) (rdb *goredis.Client, list []*box, asks []queue.Ask) {
	t.Helper()
	rdb = testkit.ProductClient(t, addr)
	for i := range n {
		b := boxOn(t, rdb, fmt.Sprintf("sale-%02d", i), queues.OpenSale())
		list = append(list, b)
		asks = append(asks, queue.Ask{Line: b.Line, Epoch: 1, Rate: queues.Rate,
			Requests: []queue.Request{queues.Ask("order-"+b.Sale(), "user")}})
	}
	return rdb, list, asks
}

// What is wrong with one line harms none of those whose calls are made in one with its own.
func TestOneBrokenLineAmongMany(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		const lines, broken = 40, 5
		rdb, list, asks := linesOf(t, addr, lines)
		require.NoError(t, rdb.Set(t.Context(), list[broken].Key("wait"), "no list", 0).Err())
		count := &testkit.Trips{}
		rdb.AddHook(count)
		for _, replayed := range []bool{false, true} {
			results := list[0].Lines.Admit(t.Context(), asks)
			require.Len(t, results, lines)
			for i := range results {
				if i == broken {
					require.ErrorContains(t, results[i].Err, "redis script admit on "+list[i].Key("meta"))
					require.ErrorContains(t, results[i].Err, "WRONGTYPE")
					require.NotErrorIs(t, results[i].Err, queue.ErrNotReady)
					continue
				}
				require.NoError(t, results[i].Err)
				require.NoError(t, results[i].Admissions[0].Err)
				require.Equal(t, replayed, results[i].Admissions[0].Replayed)
				require.Equal(t, asks[i].Requests[0].ID, results[i].Admissions[0].Ticket.ID)
			}
		}
		// Redis may not know the script at first: the call is then sent again with its text.
		require.LessOrEqual(t, count.Keys.Load(), int64(3*lines*6))
		require.Less(t, count.Commands.Load(), int64(10), "two for each forty, and what a connection begins with")
		views, failed := list[0].Lines.Views(t.Context(), []string{"sale-04", "sale-05"})
		require.NoError(t, failed[0])
		require.EqualValues(t, 1, views[0].Seq)
		require.ErrorContains(t, failed[1], "redis script view on "+list[broken].Key("meta"))
	})
}

func TestPipelinedLinesAreFencedEachByItself(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		rdb, list, asks := linesOf(t, addr, 3)
		lines := list[0].Lines
		asks[1].Epoch = 2
		results := lines.Admit(t.Context(), asks)
		require.NoError(t, results[0].Err)
		require.ErrorIs(t, results[1].Err, queue.ErrNotReady)
		require.NoError(t, results[2].Err)

		require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
		require.NoError(t, rdb.HSet(t.Context(), list[2].Key("meta"), "run", "another server").Err())
		results = lines.Admit(t.Context(), asks)
		require.NoError(t, results[0].Err)
		require.ErrorIs(t, results[1].Err, queue.ErrNotReady)
		require.ErrorIs(t, results[2].Err, queue.ErrNotReady)
	})
}

// go-redis reads on after some errors within a list as if the list had ended: who came next would
// get an answer meant for another.
func TestRefusalsOfSomeLinesLeaveTheOthersTheirAnswers(t *testing.T) {
	t.Parallel()
	rdb, list, asks := linesOf(t, testkit.Redis(t).Addr(), 33) // one more than are called in one
	paused := queues.OpenSale()
	paused.Version, paused.State = 2, "paused"
	require.NoError(t, list[1].Configure(t.Context(), paused))
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	before := rdb.PoolStats()
	results := list[0].Lines.Admit(t.Context(), asks)
	for i := range results {
		if i == 1 {
			require.NoError(t, results[i].Err)
			require.ErrorIs(t, results[i].Admissions[0].Err, queue.ErrPaused)
			continue
		}
		require.ErrorContains(t, results[i].Err, "redis script admit on "+list[i].Key("meta")+": OOM ")
		require.True(t, redis.Unavailable(results[i].Err))
	}
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	require.NoError(t, list[0].Lines.Admit(t.Context(), asks)[0].Err)
	after := rdb.PoolStats()
	require.Equal(t, [2]uint32{before.Misses, before.StaleConns}, [2]uint32{after.Misses, after.StaleConns},
		"the connection is good for more")
}

// The client must see that it talks to a replica, to leave it.
func TestManyLinesOnAReplica(t *testing.T) {
	t.Parallel()
	rdb, list, asks := linesOf(t, testkit.Redis(t).Addr(), 3)
	require.NoError(t, rdb.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
	before := rdb.ClientID(t.Context()).Val()
	for _, one := range list[0].Lines.Admit(t.Context(), asks) {
		require.ErrorContains(t, one.Err, "READONLY ")
		require.True(t, redis.Unavailable(one.Err))
	}
	require.NotEqual(t, before, rdb.ClientID(t.Context()).Val())
}

func TestManyLinesBehindOneAddressOfACluster(t *testing.T) {
	t.Parallel()
	addr := testkit.Redis(t, "--cluster-enabled", "yes").Addr()
	node := testkit.ProductClient(t, addr)
	require.NoError(t, node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	require.Eventually(t, func() bool { return node.Set(t.Context(), "a", "b", 0).Err() == nil }, 10*time.Second,
		10*time.Millisecond)
	_, list, asks := linesOf(t, addr, 3)
	for _, one := range list[0].Lines.Admit(t.Context(), asks) {
		require.NoError(t, one.Err)
		require.NoError(t, one.Admissions[0].Err)
	}
	views, failed := list[0].Lines.Views(t.Context(), []string{"sale-00", "sale-02"})
	require.NoError(t, errors.Join(failed...))
	require.EqualValues(t, 1, views[1].Waiting)
}
