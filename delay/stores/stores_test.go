package stores_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/stores"
	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/topics"
	"sluice/store/redis"

	"github.com/prometheus/client_golang/prometheus"
)

// inStore puts a topic into a store.
func inStore(name string) func(*delay.Change) {
	return func(c *delay.Change) { c.Store = &name }
}

// TestAStoreThatDiesStopsItsTopicsOnly lets one of two stores hang, or kills it. Messages of the other are taken,
// delivered, received, listed and counted in time. Operators are told once, and when it is back.
func TestAStoreThatDiesStopsItsTopicsOnly(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct{ begin, end func(*testkit.RedisServer) }{
		"hangs":  {(*testkit.RedisServer).Hang, (*testkit.RedisServer).Wake},
		"killed": {(*testkit.RedisServer).Kill, (*testkit.RedisServer).Start},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bulk := testkit.Redis(t)
			s := newShop(t, map[string]redis.Config{"bulk": {Addrs: []string{bulk.Addr()}, Timeout: 20 * time.Second}})
			other, _ := s.process()
			r := providers.NewReceiver(t, providers.AcceptAll)
			s.Topic("vip", r.URL)
			s.Topic("mass", r.URL, inStore("bulk"))
			s.Subscribe("vip", "vip-reader")
			s.Subscribe("mass", "mass-reader")
			s.Add("mass", topics.Message("before", 0), topics.Message("kept", 20*time.Second))
			s.Dispatch()
			require.Eventually(t, func() bool { return len(r.CallsWith("mass:before")) == 1 }, topics.Patience,
				topics.Look)

			fault.begin(bulk)
			readers, lists := s.Readers(), s.Messages
			for i := range 100 { // while nobody has noticed, and afterwards
				id := fmt.Sprint("m-", i)
				began := time.Now()
				s.Add("vip", topics.Message(id, 50*time.Millisecond))
				require.Eventually(t, func() bool { return len(r.CallsWith("vip:"+id)) == 1 }, topics.Patience,
					time.Millisecond)
				require.Less(t, time.Since(began), 3*time.Second, "it waited for the dead store")
				if i%20 == 0 {
					got := s.Receive(readers, "vip-reader", time.Second)
					require.NotEmpty(t, got)
					counts, failed := lists.Count(t.Context(), s.Topics.Of("vip"))
					require.NoError(t, errors.Join(failed...))
					require.Len(t, counts, 2)
				}
			}
			s.awaitUp(s.reg, "bulk", 0)
			s.awaitUp(other, "bulk", 0)
			require.EqualValues(t, 1, s.Value(s.reg, "sluice_delay_store_up", "default"))
			began := time.Now()
			_, err := s.Publisher().Add(t.Context(), "mass", []delay.New{topics.Message("refused", 0)})
			require.ErrorIs(t, err, delay.ErrStoreDown)
			require.ErrorContains(t, err, "store bulk of delayed messages")
			_, err = readers.Receive(t.Context(), "mass-reader", 1, 0)
			require.ErrorIs(t, err, delay.ErrStoreDown)
			_, failed := s.Messages.Count(t.Context(), s.Topics.Subscriptions())
			require.Error(t, errors.Join(failed...), "mass is not counted, vip is")
			require.Contains(t, failed, error(nil))
			require.Less(t, time.Since(began), 10*time.Second, "nobody waits for what is known to be away")

			fault.end(bulk)
			s.awaitUp(s.reg, "bulk", 1)
			require.Eventually(t, func() bool { return len(r.CallsWith("mass:kept")) > 0 }, topics.Patience,
				topics.Look,
				"what was taken is there")
			s.Add("mass", topics.Message("after", 0))
			require.Eventually(t, func() bool { return len(r.CallsWith("mass:after")) > 0 }, topics.Patience,
				topics.Look)
			require.Eventually(t, func() bool { return len(s.isTold()) >= 2 }, topics.Patience, topics.Look)
			require.Equal(t, []string{"bulk down", "bulk up"}, s.isTold(), "once for both processes")
		})
	}
}

// TestAProcessStartsWithoutAStore starts while a store is away. Its topics are served when it has come and passed the
// checks.
func TestAProcessStartsWithoutAStore(t *testing.T) {
	t.Parallel()
	bulk := testkit.Redis(t)
	bulk.Kill()
	s := newShop(t, map[string]redis.Config{"bulk": {Addrs: []string{bulk.Addr()}, Durability: "always"}})
	s.Topic("vip", "")
	s.Subscribe("vip", "reader")
	s.Add("vip", topics.Message("a", 0))
	_, err := s.Topics.Create(t.Context(), "mass", delay.Change{URL: new(""), Store: new("bulk")}, "ann", "")
	require.ErrorIs(t, err, delay.ErrStoreDown)
	bulk.Start()
	s.awaitUp(s.reg, "bulk", 1)
	require.EqualValues(t, 1, s.Value(s.reg, "sluice_delay_store_durable", "bulk"))
	s.Topic("mass", "", inStore("bulk"))
	s.Subscribe("mass", "mass-reader")
	s.Add("mass", topics.Message("a", 0))
	require.Zero(t, s.Redis.Exists(t.Context(), "sluice:delay:{mass}:s:mass-reader:due").Val(),
		"it is not in the main Redis")
	require.EqualValues(t, 1, bulk.Client().ZCard(t.Context(), "sluice:delay:{mass}:s:mass-reader:due").Val())
}

// TestAStoreMustKeepWhatItTakes refuses stores as the main Redis is refused, with the keys to change.
func TestAStoreMustKeepWhatItTakes(t *testing.T) {
	t.Parallel()
	evicting := testkit.Redis(t, "--maxmemory-policy", "allkeys-lru")
	lax := testkit.Redis(t, "--appendfsync", "everysec")
	s := newShop(t, nil)
	for want, cfg := range map[string]redis.Config{
		"maxmemory-policy is allkeys-lru": {Addrs: []string{evicting.Addr()}},
		"it is everysec, not always":      {Addrs: []string{lax.Addr()}, Durability: "always"},
	} {
		p := s.parts(prometheus.NewRegistry())
		p.Config.Stores = map[string]redis.Config{"bulk": cfg}
		_, err := stores.Open(t.Context(), p)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "store bulk of delayed messages")
	}
}

// TestATopicMoves takes a topic to another store and back, with its subscriptions, once nothing of it is unfinished.
func TestATopicMoves(t *testing.T) {
	t.Parallel()
	bulk := testkit.Redis(t)
	s := newShop(t, map[string]redis.Config{"bulk": {Addrs: []string{bulk.Addr()}}})
	s.Topic("points", "")
	s.Subscribe("points", "reader")
	s.Add("points", topics.Message("a", 0))
	move := func(to string) error {
		_, err := s.Topics.Update(t.Context(), "points", delay.Change{Store: &to}, "ann", "")
		return err
	}
	err := move("bulk")
	require.ErrorIs(t, err, delay.ErrTopicInUse)
	require.ErrorContains(t, err, "in store default end, then move it to bulk")
	require.ErrorContains(t, move("nowhere"), "store has \"nowhere\": there are default, bulk")
	s.Add("points", topics.Message("b", 0)) // it takes messages where it is
	behind := s.OtherProcess()              // has not heard of the move
	readers := s.Readers()
	for _, l := range s.Receive(readers, "reader", 0) {
		_, err := readers.Ack(t.Context(), "reader", []string{l.Lease})
		require.NoError(t, err)
	}
	require.NoError(t, move("bulk"))
	behind.Add("points", topics.Message("c", 0))
	s.Add("points", topics.Message("d", 0))
	require.Equal(t, []string{"c", "d"}, topics.IDs(s.Receive(readers, "reader", 0)))
	require.Empty(t, s.Redis.Keys(t.Context(), "sluice:delay:*:messages").Val(), "nothing is left where it was")
	require.ErrorIs(t, move("default"), delay.ErrTopicInUse)
}

// TestAnEmbeddedStore keeps the messages of a topic inside the process.
func TestAnEmbeddedStore(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]redis.Config{"mem": {Mode: redis.ModeEmbedded}})
	r := providers.NewReceiver(t, providers.AcceptAll)
	s.Topic("mass", r.URL, inStore("mem"))
	s.Dispatch()
	s.Add("mass", topics.Message("a", 0))
	require.Eventually(t, func() bool { return len(r.CallsWith("mass:a")) == 1 }, topics.Patience, topics.Look)
	require.Zero(t, s.Value(s.reg, "sluice_delay_store_durable", "mem"))
	require.Empty(t, s.Redis.Keys(t.Context(), "sluice:delay:*:messages").Val())
}

// TestAClusterIsAStore keeps the messages of topics on the masters of a cluster.
func TestAClusterIsAStore(t *testing.T) {
	t.Parallel()
	c := testkit.NewSmallCluster(t)
	s := newShop(t, map[string]redis.Config{"bulk": {Mode: redis.ModeCluster, Addrs: []string{c.Nodes[0].Addr()}}})
	r := providers.NewReceiver(t, providers.AcceptAll)
	var all []string
	for i := range 8 {
		all = append(all, fmt.Sprint("mass-", i))
		s.Topic(all[i], r.URL, inStore("bulk"))
	}
	s.Dispatch()
	for _, topic := range all {
		s.Add(topic, topics.Message("a", 0))
	}
	for _, topic := range all {
		require.Eventually(t, func() bool { return len(r.CallsWith(topic+":a")) == 1 }, topics.Patience, topics.Look)
	}
}
