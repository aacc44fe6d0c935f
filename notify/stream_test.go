package notify

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

func TestStreamAppendsBoundedEntries(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			rdb := testkit.RedisClient(t, kind.Addr)
			s := NewStream(StreamConfig{Key: "sluice:events", MaxLen: 100}, rdb)
			require.Equal(t, "stream", s.Name())
			messages := make([]Message, 500)
			for i := range messages {
				messages[i] = Message{OrderID: "o" + strconv.Itoa(i), Event: "order.paid", SaleID: "s1", UserID: "u1", CreatedAt: time.UnixMilli(42)}
			}
			for _, result := range s.Deliver(t.Context(), messages) {
				require.Equal(t, Delivered(), result)
			}
			entries, err := rdb.XRange(t.Context(), "sluice:events", "-", "+").Result()
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(entries), 100)
			require.Less(t, len(entries), 300, "old entries are trimmed")
			require.Equal(t, map[string]any{"id": "o499:order.paid", "order": "o499", "sale": "s1", "user": "u1",
				"event": "order.paid", "at": "42"}, entries[len(entries)-1].Values)
		})
	}
}

func TestStreamFailuresAreRetried(t *testing.T) {
	t.Parallel()
	redis := testkit.Embedded(t)
	rdb := testkit.RedisClient(t, redis.Addr())
	s := NewStream(DefaultStreamConfig(), rdb)
	require.NoError(t, redis.Set("sluice:events", "not a stream"))
	results := s.Deliver(t.Context(), make([]Message, 2))
	require.Len(t, results, 2)
	for _, r := range results {
		require.Equal(t, failed, r.outcome)
		require.Contains(t, r.err, "redis: ")
	}
	redis.Close()
	for _, r := range s.Deliver(t.Context(), make([]Message, 2)) {
		require.Equal(t, failed, r.outcome)
	}
}
