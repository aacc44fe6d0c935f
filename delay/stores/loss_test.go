package stores_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/internal/testkit"
	"sluice/internal/testkit/topics"
	"sluice/store/redis"
)

// lossShop has a topic with three messages that wait and one that was finished, all written down in the database.
func lossShop(t *testing.T) (*shop, *testkit.RedisServer) {
	t.Helper()
	bulk := testkit.Redis(t)
	s := newShop(t, map[string]redis.Config{"bulk": {Addrs: []string{bulk.Addr()}}},
		func(c *delay.Config) { c.Refresh = 20 * time.Millisecond })
	s.Topic("mass", "", inStore("bulk"))
	s.Topic("vip", "")
	s.Subscribe("mass", "mass-reader")
	s.Subscribe("vip", "vip-reader")
	s.Add("vip", topics.Message("a", time.Hour))
	s.Add("mass", topics.Message("done", 0))
	readers := s.Readers()
	_, err := readers.Ack(t.Context(), "mass-reader", []string{s.Receive(readers, "mass-reader", 0)[0].Lease})
	require.NoError(t, err)
	s.Refresh()
	s.Add("mass", topics.Message("a", time.Hour), topics.Message("b", time.Hour), topics.Message("c", time.Hour))
	s.awaitTopic("mass", func(m delay.Topic) bool { return m.MarkAdded == 4 && m.Unfinished == 3 })
	return s, bulk
}

func (s *shop) awaitTopic(name string, is func(delay.Topic) bool) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		found, known := s.Topics.Snapshot().Topic(name)
		return known && is(found)
	}, topics.Patience, topics.Look)
}

// TestAnEmptiedStoreIsTold empties a store while nobody adds. What was unfinished is told as lost, once, and what
// comes afterwards is taken.
func TestAnEmptiedStoreIsTold(t *testing.T) {
	t.Parallel()
	s, bulk := lossShop(t)
	require.NoError(t, bulk.Client().FlushAll(t.Context()).Err())
	s.awaitTopic("mass", func(m delay.Topic) bool { return m.Lost == 3 && m.LostAt > 0 })
	s.Add("mass", topics.Message("a", time.Hour))
	s.awaitTopic("mass", func(m delay.Topic) bool { return m.MarkAdded == 1 })
	require.Equal(t, []delay.Loss{{Topic: "mass", Store: "bulk", Messages: 3, Unknown: 4}}, s.Lost())
	vip, _ := s.Topics.Snapshot().Topic("vip")
	require.Zero(t, vip.Lost, "the other store has lost nothing")
}

// TestALossIsToldBeforeItIsHidden lets a store come back older. The first to add afterwards finds it, though it adds
// more than was lost and has heard of what was added from the database only.
func TestALossIsToldBeforeItIsHidden(t *testing.T) {
	t.Parallel()
	s, bulk := lossShop(t)
	rdb := bulk.Client()
	other := s.OtherProcess()
	// As a replica has it that was behind by two messages.
	require.NoError(t, rdb.Set(t.Context(), "sluice:delay:{mass}:added", 2, 0).Err())
	other.Add("mass", topics.Bulk("n", 0, 50, func(int) time.Time { return time.Now().Add(time.Hour) })...)
	s.awaitTopic("mass", func(m delay.Topic) bool { return m.Lost == 2 && m.MarkAdded == 52 })
	require.Equal(t, "52", rdb.Get(t.Context(), "sluice:delay:{mass}:added").Val())
	require.Len(t, append(s.Lost(), other.Lost()...), 1, "one of them tells")
}

// TestATopicThatMovesOrIsDeletedHasLostNothing counts anew, without a word.
func TestATopicThatMovesOrIsDeletedHasLostNothing(t *testing.T) {
	t.Parallel()
	s, _ := lossShop(t)
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, s.Publisher().Cancel(t.Context(), "mass", id))
	}
	_, err := s.Topics.Update(t.Context(), "mass", delay.Change{Store: new("default")}, "ann", "")
	require.NoError(t, err)
	s.Add("mass", topics.Message("a", time.Hour))
	s.awaitTopic("mass", func(m delay.Topic) bool { return m.MarkAdded == 1 })
	require.NoError(t, s.Publisher().Cancel(t.Context(), "mass", "a"))
	require.NoError(t, s.Topics.DeleteSubscription(t.Context(), delay.Deletion{Name: "mass-reader"}, "ann", ""))
	require.NoError(t, s.Topics.Delete(t.Context(), "mass", "ann", ""))
	s.Topic("mass", "")
	s.Subscribe("mass", "mass-reader")
	s.Add("mass", topics.Message("a", time.Hour), topics.Message("b", time.Hour))
	s.awaitTopic("mass", func(m delay.Topic) bool { return m.MarkAdded == 2 && m.Lost == 0 })
	require.Empty(t, s.Lost())
}
